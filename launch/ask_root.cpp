// agree() equalises failures, not values; this equalises values.
#include "launch/ask_root.h"

#include "collectives/agree.h"
#include "collectives/share.h"

namespace takt {

std::string ask_root(Communicator& comm, const std::function<std::string()>& question) {
  std::string answer;
  agree(comm, [&] {
    if (comm.rank() == 0) answer = question();
  });
  return share_text(comm, answer);
}

bool ask_root_whether(Communicator& comm, const std::function<bool()>& question) {
  return !ask_root(comm, [&] { return std::string(question() ? "yes" : ""); }).empty();
}

}  // namespace takt
