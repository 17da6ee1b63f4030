#!/usr/bin/env bash
# Every C++ block of the README must stand, line for line (indentation aside), in a compiled file of apps/examples.
#   check_readme.sh SOURCE_DIR
set -euo pipefail
cd "$1"

perl -0777 -e '
  sub plain { join "\n", map { s/^\s+|\s+$//gr } split /\n/, shift }
  my %example;
  for my $path (glob "apps/examples/*.cpp") { open my $file, "<", $path or die; $example{$path} = plain(scalar <$file>) }
  open my $readme, "<", "README.md" or die "README.md: $!";
  my ($blocks, $faults) = (0, 0);
  my $text = <$readme>;
  while ($text =~ /```cpp\n(.*?)```/sg) {
    my $block = plain($1);
    ++$blocks;
    next if grep { index($_, $block) >= 0 } values %example;
    ++$faults;
    print "README.md: this block is in no file of apps/examples:\n$1";
  }
  print "$blocks blocks, $faults not compiled\n";
  exit($faults || !$blocks ? 1 : 0);
'
