// Rates are of the median.
#include "launch/bench_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace takt {
namespace {

double rate_of(const BenchResult& result) {
  return result.benchmark.work / result.time.median_s;
}

std::string time_text(double time_s) {
  return time_s < 1e-3 ? fmt::format("{:.1f} us", 1e6 * time_s) : fmt::format("{:.3f} ms", 1e3 * time_s);
}

std::string rate_text(const BenchResult& result) {
  return result.benchmark.is_bytes ? fmt::format("{:.2f} GB/s", rate_of(result) / 1e9)
                                   : fmt::format("{:.3f} TFLOP/s", rate_of(result) / 1e12);
}

std::string peak_text(const BenchResult& result) {
  return result.benchmark.peak > 0 ? fmt::format("{:.1f}%", 100 * rate_of(result) / result.benchmark.peak)
                                   : "-";
}

}  // namespace

std::string bench_text(const BenchReport& report) {
  std::string text = fmt::format("takt {}   {} rank{} on {} host{}   {}\n", report.version, report.num_ranks,
                                 report.num_ranks == 1 ? "" : "s", report.num_hosts,
                                 report.num_hosts == 1 ? "" : "s", report.device);
  text += fmt::format("medians of {} samples of at least {:.0f} ms, after a warm-up; rates are of one rank\n",
                      report.timing.num_samples, 1e3 * report.timing.sample_s);
  constexpr std::string_view kLine = "{:<28} {:<22} {:>12} {:>12} {:>12} {:>16} {:>8}\n";
  text += fmt::format(kLine, "op", "shape", "median", "min", "max", "rate", "of peak");
  for (const BenchResult& result : report.results)
    text += fmt::format(kLine, result.benchmark.op, result.benchmark.shape, time_text(result.time.median_s),
                        time_text(result.time.min_s), time_text(result.time.max_s), rate_text(result),
                        peak_text(result));
  return text;
}

std::string bench_json(const BenchReport& report) {
  using Json = nlohmann::ordered_json;
  Json results = Json::array();
  for (const BenchResult& result : report.results) {
    Json row = {
        {"op", result.benchmark.op},        {"shape", result.benchmark.shape},
        {"median_s", result.time.median_s}, {"min_s", result.time.min_s},
        {"max_s", result.time.max_s},       {"runs_a_sample", result.time.runs_a_sample},
        {"rate", rate_of(result)},          {"rate_unit", result.benchmark.is_bytes ? "B/s" : "FLOP/s"}};
    if (result.benchmark.peak > 0) row["of_peak"] = rate_of(result) / result.benchmark.peak;
    results.push_back(std::move(row));
  }
  return Json({{"takt", report.version},
               {"device", report.device},
               {"ranks", report.num_ranks},
               {"hosts", report.num_hosts},
               {"samples", report.timing.num_samples},
               {"results", results}})
             .dump(2) +
         "\n";
}

}  // namespace takt
