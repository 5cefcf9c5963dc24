// Golden lines of the training console.
#include "launch/console.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"

namespace takt {
namespace {

const StepLine kStep = {.step = 120,
                        .steps = 1500,
                        .loss = 5.0431,
                        .grad_norm = 0.91,
                        .lr = 6e-4,
                        .step_s = 0.515,
                        .units_per_s = 15900,
                        .mfu = 0.408,
                        .comm = 0.10,
                        .exposed = 0.024,
                        .memory_bytes = 429496730,
                        .eta_s = 711};

TEST(Console, StepLinesStandUnderTheirTitles) {
  EXPECT_EQ(titles_text(1500, "tokens"),
            " step        loss   gnorm      lr     step   tokens/s    MFU   comm  exposed    mem    eta");
  EXPECT_EQ(step_text(kStep),
            "  120/1500  5.0431   0.910  6.0e-04   515ms     15.9k  40.8%   10%     2.4%  0.40G  11:51");
}

TEST(Console, StepLinesOfLargeAndSmallAndUnknownNumbersKeepTheirColumns) {
  StepLine line = kStep;
  line.loss = 12345;
  line.grad_norm = 98765;
  line.step_s = 0.0051;
  line.units_per_s = 1.25e6;
  line.mfu.reset();
  line.eta_s = 7261;
  EXPECT_EQ(step_text(line),
            "  120/1500  1.2e+04 9.9e+04  6.0e-04  5.10ms      1.2M      -   10%     2.4%  0.40G  2:01:01");
  line.loss = std::nan("");
  line.step_s = 12.34;
  line.units_per_s = 950;
  EXPECT_EQ(step_text(line),
            "  120/1500     nan 9.9e+04  6.0e-04   12.3s       950      -   10%     2.4%  0.40G  2:01:01");
}

TEST(Console, HeaderTellsTheWholeRun) {
  EXPECT_EQ(header_text({.version = "0.1.0",
                         .build = "cpu+cuda, git 1a2b3c4",
                         .run_directory = "runs/kjv-4m.2026-11-23T12-30-05",
                         .num_ranks = 2,
                         .num_hosts = 1,
                         .launcher = "Open MPI 4.1.4",
                         .backend = "cpu: oneDNN 2.6.3 avx512_bf16",
                         .num_threads = 1,
                         .peak_flops_per_s = 0.49e12,
                         .model = "gpt",
                         .num_parameters = 4200000,
                         .train_units = 1160000,
                         .valid_units = 60000,
                         .mesh = "data=2",
                         .batch_units = 8192,
                         .data_ranks = 2,
                         .accumulated = 4,
                         .micro_batch = 4,
                         .units_a_sample = 256,
                         .memory_bytes = 429496730,
                         .memory_limit_bytes = 24ULL << 30,
                         .checkpoint_bytes = 59000000,
                         .checkpoint_steps = 500,
                         .checkpoint_s = 0,
                         .predicted_step_s = 0.5,
                         .steps = 1500}),
            "takt 0.1.0 (cpu+cuda, git 1a2b3c4)   run runs/kjv-4m.2026-11-23T12-30-05\n"
            "ranks 2 on 1 host (Open MPI 4.1.4)   backend cpu: oneDNN 2.6.3 avx512_bf16, 1 thread a rank   "
            "measured "
            "peak 0.49 TFLOP/s a rank\n"
            "model gpt 4.20 M parameters   data 1.16 M train / 60.0 k valid tokens   mesh data=2   batch "
            "8192 tokens = 2 "
            "ranks x 4 accumulated x 4 x 256\n"
            "memory 0.40 GiB a rank of 24 GiB (planned)   checkpoint 59 MB every 500 steps   predicted 0.50 "
            "s a step, "
            "12:30 in all");
}

TEST(Console, ValidationAndCheckpointLines) {
  ValidLine valid{.step = 120, .steps = 1500, .loss = 5.0917, .time_s = 0.9, .is_best = true};
  EXPECT_EQ(valid_text(valid), "  120/1500  valid 5.0917   0.9s   best");
  valid.figures = {{"ppl", 162.667}, {"bits_per_byte", 1.5}};
  valid.is_best = false;
  EXPECT_EQ(valid_text(valid), "  120/1500  valid 5.0917   ppl 162.7   bits per byte 1.5   0.9s");
  EXPECT_EQ(checkpoint_text({.step = 500,
                             .steps = 1500,
                             .name = "step-000500",
                             .num_bytes = 59000000,
                             .time_s = 0.21,
                             .blocking_s = 0.03,
                             .is_verified = true}),
            "  500/1500  checkpoint step-000500   59 MB in 0.21s (0.03s blocking)   verified");
}

TEST(Console, DoneLineEndsWithTheSections) {
  const SectionTime forward{
      .name = "forward", .min_s = 0.1569, .average_s = 0.1581, .max_s = 0.1593, .share = 0.307};
  EXPECT_EQ(done_text({.steps = 1500,
                       .num_units = 12300000,
                       .time_s = 773,
                       .loss = 3.3121,
                       .valid_loss = 3.6177,
                       .units_per_s = 15900,
                       .mfu = 0.408,
                       .sections = {forward}}),
            "done 1500 steps, 12.3 M tokens in 12:53   loss 3.3121   valid 3.6177   mean 15.9k tokens/s   "
            "MFU 40.8%\n"
            "section          min ms   avg ms   max ms  imbal   share        (over ranks)\n"
            "forward           156.9    158.1    159.3     1%   30.7%");
}

TEST(Console, PrintsTheSameLinesOnStdoutAndInTheFileAndAppends) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("takt_console_test." + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  testing::internal::CaptureStdout();
  for (int run = 0; run < 2; ++run) {
    Console console(folder / "console.log");
    console.print("a { brace % and percent");
    console.print(kStep);
    console.print(kStep);
  }
  const std::string on_stdout = testing::internal::GetCapturedStdout();
  std::ostringstream in_file;
  in_file << std::ifstream(folder / "console.log").rdbuf();
  const std::string once = "a { brace % and percent\n" + titles_text(1500, "tokens") + '\n' +
                           step_text(kStep) + '\n' + step_text(kStep) + '\n';
  EXPECT_EQ(in_file.str(), once + once);
  EXPECT_EQ(on_stdout, once + once);
  std::filesystem::remove_all(folder);
}

TEST(Console, AFileThatCannotBeOpenedIsAnIoError) {
  try {
    Console console("/dev/null/console.log");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kIo);
  }
}

}  // namespace
}  // namespace takt
