#pragma once
// The results as text and as JSON.

#include <bench/table/measure.hpp>

#include <string>
#include <utility>
#include <vector>

namespace bench {

struct MeasuredSection {
  std::string title;
  std::vector<std::pair<Line, Result>> lines;
};

/// When and where: date, processor, threads, libraries.
std::string machine(const Peers& peers);
/// As Markdown, aligned to be read as it is.
std::string table(const MeasuredSection& section, const Peers& peers);
std::string table(const std::vector<TrainedBody>& bodies);

void write_json(const std::string& file, const std::string& machine,
                const std::vector<MeasuredSection>& sections, const std::vector<TrainedBody>& bodies);
/// Against what write_json left in a file.
std::string comparison(const std::string& file, const std::vector<MeasuredSection>& sections);

}  // namespace bench
