# banach_embed(TARGET SYMBOL FILE): puts FILE's bytes into TARGET as
#   namespace banach::embedded { extern const unsigned char SYMBOL[]; extern const std::size_t SYMBOL_size; }
# The assembler reads the bytes (.incbin), so no compiler has to parse them; a changed FILE is embedded anew.
function(banach_embed target symbol file)
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "banach_embed: the file to embed as '${symbol}' does not exist: ${file}")
  endif()
  string(LENGTH "${symbol}" length)
  math(EXPR size_length "${length} + 5")
  set(array_name "_ZN6banach8embedded${length}${symbol}E")
  set(size_name "_ZN6banach8embedded${size_length}${symbol}_sizeE")
  set(source "${PROJECT_BINARY_DIR}/generated/embedded/${symbol}.cpp")
  configure_file("${PROJECT_SOURCE_DIR}/cmake/embed.cpp.in" "${source}" @ONLY)
  set_source_files_properties("${source}" PROPERTIES OBJECT_DEPENDS "${file}")
  target_sources(${target} PRIVATE "${source}")
endfunction()
