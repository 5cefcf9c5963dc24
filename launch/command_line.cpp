// CLI11 reads the flags; what is wrong with them is said in our words, with the nearest flag or command there is.
#include "launch/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/base/units.h"

namespace takt {
namespace {

// "takt data build", for errors and hints.
std::string path_of(const CLI::App& app) {
  return app.get_parent() ? path_of(*app.get_parent()) + ' ' + app.get_name() : app.get_name();
}

[[noreturn]] void fail_usage(const CLI::App& app, const std::string& what,
                             const std::optional<std::string>& meant) {
  fail(Fault::kUsage, what, "\n  ",
       meant ? "did you mean '" + *meant + "'?" : "'" + path_of(app) + " --help' shows what there is");
}

std::optional<std::string> nearest_flag(const CLI::App& app, const std::string& flag) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  return did_you_mean(flag.substr(0, flag.find('=')), flags);
}

std::optional<std::string> nearest_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return did_you_mean(word, names);
}

// An unknown flag comes first: the words behind it were misunderstood because of it.
void refuse_extras(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining();
  const auto flag = std::find_if(extras.begin(), extras.end(), [](const std::string& word) {
    return word.find_first_not_of('-') != std::string::npos && word.starts_with('-');
  });
  if (flag != extras.end()) {
    std::optional<std::string> meant = nearest_flag(app, *flag);
    if (!meant) meant = nearest_command(app, flag->substr(flag->find_first_not_of('-')));
    fail_usage(app, path_of(app) + ": unknown flag '" + *flag + "'", meant);
  }
  if (extras.empty()) return;
  if (!app.get_subcommands({}).empty())
    fail_usage(app,
               (app.get_parent() ? path_of(app) + ": " : "") + "unknown command '" + extras.front() + "'",
               nearest_command(app, extras.front()));
  fail_usage(app, path_of(app) + ": unexpected argument '" + extras.front() + "'", std::nullopt);
}

// The command whose words were being read, however deep ("data build"), or the program.
const CLI::App& innermost(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app : innermost(*parsed.front());
}

// Words that a command does not know are kept, so that refuse_extras can say what was meant.
void allow_extras(CLI::App& app) {
  app.allow_extras();
  for (CLI::App* command : app.get_subcommands({})) allow_extras(*command);
}

// Whether help was asked for; any other error of the parser is thrown as kUsage.
bool is_help_asked_for(CLI::App& app, std::vector<std::string> words) {
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    return true;
  } catch (const CLI::ParseError& error) {
    refuse_extras(innermost(app));
    fail_usage(innermost(app), path_of(innermost(app)) + ": " + error.what(), std::nullopt);
  }
  return false;
}

}  // namespace

CommandLine parse_command_line(const std::vector<Command>& commands, const std::vector<std::string>& words) {
  CLI::App app("Takt trains models on many processors, from one job file.", "takt");
  app.footer("Start with: takt train examples/gpt/kjv.toml");
  std::vector<std::unique_ptr<Invocation>> invocations;
  for (const Command& command : commands) {
    CLI::App* added = app.add_subcommand(command.name, command.summary);
    invocations.push_back(command.prepare(*added));
  }
  allow_extras(app);
  if (is_help_asked_for(app, words)) return {.invocation = nullptr, .help = app.help(), .exit_code = 0};
  refuse_extras(innermost(app));
  for (std::size_t i = 0; i < commands.size(); ++i)
    if (app.got_subcommand(commands[i].name))
      return {.invocation = std::move(invocations[i]), .needs_ranks = commands[i].needs_ranks, .help = ""};
  return {.invocation = nullptr, .help = app.help(), .exit_code = static_cast<int>(Fault::kUsage)};
}

}  // namespace takt
