# shellcheck shell=bash
# The node as the kernel sees it: a network namespace with a cable to the host,
# and in it a process tree with its own PIDs, mounts, host name and IPC.
# See docs/adr/0001-e2e-cluster-in-its-own-namespaces.md for the reasons.
#
# The kernel is the only register: whatever became of our files, the network
# namespace's name leads to the processes that live in it, and PID 1 among them
# takes all others along when it ends.

cluster_hash=$(printf '%s' "$repo_dir" | sha256sum)
cluster_hash=${cluster_hash:0:8}
# Network namespace, cgroup and name for people: one per clone of the repository.
cluster_name=deputy-$cluster_hash
# The host's end of the cable; the kernel allows 15 characters.
host_link=dpty-$cluster_hash
node_name=deputy-e2e

# node_pid: the host's PID of the node's PID 1; fails when there is none.
node_pid() {
  local pid ids depth
  read -ra ids < <(sed -n 's/^NSpid:\t//p' /proc/self/status)
  # One PID namespace further down than ourselves. Pods on the host network are deeper.
  depth=$((${#ids[@]} + 1))
  while read -r pid; do
    read -ra ids < <(sed -n 's/^NSpid:\t//p' "/proc/$pid/status" 2> /dev/null) || continue
    if ((${#ids[@]} == depth && ids[depth - 1] == 1)); then
      printf '%s' "$pid"
      return 0
    fi
  done < <(ip netns pids "$cluster_name" 2> /dev/null)
  return 1
}

# in_node COMMAND...: runs it inside of the node, in PID 1's folder, which is its
# root (a folder named here would be the host's). The caller's folder for temporary
# files is not there.
in_node() {
  env -u TMPDIR nsenter --target "$(node_pid)" --mount --uts --ipc --net --pid --root --wd -- "$@"
}

# running COMPONENT: whether the process that `start` wrote down is alive.
running() {
  local root pid name state
  root=/proc/$(node_pid)/root
  pid=$(cat "$root/run/$1.pid" 2> /dev/null) || return 1
  read -r _ name state _ 2> /dev/null < "$root/proc/$pid/stat" || return 1
  # The kernel keeps 15 characters. The PID alone could be someone else's by now,
  # and a process that nobody has reaped yet does not run.
  [[ $name == "(${1:0:15})" && $state != [ZX] ]]
}

# The addresses of a free cable: a pair out of 10.89.0.0/16 that no route of the
# host touches. Where to begin depends on the clone, so that it stays the same.
choose_address() {
  local slot=$((16#$cluster_hash % 16384)) try base routes
  for try in {0..63}; do
    base=$((((slot + try) % 16384) * 4))
    base=10.89.$((base / 256)).$((base % 256))
    routes=$(ip -4 route show match "$base/30" && ip -4 route show root "$base/30") || return
    if [[ -z $(sed '/^default/d' <<< "$routes") ]]; then
      printf '%s' "$base"
      return
    fi
  done
  die 'no free pair of addresses in 10.89.0.0/16: something else on this machine uses that range'
}

# node_address: of the node itself. It is the network's base plus 2, the host is plus 1.
node_address() {
  local base
  base=$(cat "$state_dir/network")
  printf '%s.%d' "${base%.*}" $((${base##*.} + 2))
}

host_address() {
  local base
  base=$(cat "$state_dir/network")
  printf '%s.%d' "${base%.*}" $((${base##*.} + 1))
}

# node_stands: namespaces, cable and PID 1 are as node_create left them.
node_stands() {
  local pid
  pid=$(node_pid) && [[ -e /proc/$pid/root/run/ready ]] &&
    [[ -n $(ip -4 addr show dev "$host_link" up to "$(host_address)" 2> /dev/null) ]] &&
    [[ $(cat "/proc/$pid/root/run/ready") == "$(node_address)" ]]
}

# The first `ip netns add` since the machine started mounts /run/netns on itself,
# and nobody ever takes that away. If it was one of us, the last of us does; for
# that a file notes it, and whether the folder was there. The lock is on /run.
netns_note=/run/deputy-netns

netns_add() (
  exec 7< /run
  flock 7
  if ! mountpoint -q /run/netns; then
    if [[ -d /run/netns ]]; then printf mount; else printf 'mount and folder'; fi > "$netns_note"
  fi
  ip netns add "$cluster_name"
)

netns_delete() (
  exec 7< /run
  flock 7
  if [[ -e /run/netns/$cluster_name ]]; then ip netns del "$cluster_name"; fi
  [[ -e $netns_note && -z $(ls -A /run/netns) ]] || return 0
  # Busy if someone else has begun to use it: then it stays.
  umount --no-mtab /run/netns 2> /dev/null || return 0
  if [[ $(< "$netns_note") == *folder ]]; then rmdir /run/netns || return 0; fi
  rm "$netns_note"
)

node_create() {
  local node_ip tool programs=() hierarchy
  node_ip=$(node_address)

  netns_add
  ip link add "$host_link" type veth peer name eth0 netns "$cluster_name"
  ip addr add "$(host_address)/30" dev "$host_link"
  ip link set "$host_link" up
  ip -n "$cluster_name" addr add "$node_ip/30" dev eth0
  ip -n "$cluster_name" link set eth0 up
  ip -n "$cluster_name" link set lo up

  # Pods' cgroups live below one of our own. (cgroup v1 has a tree per controller.)
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ $(stat -f -c %T "$hierarchy") == cgroupfs && ! -L ${hierarchy%/} ]] || continue
    mkdir -p "$hierarchy$cluster_name"
  done
  if [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]; then mkdir -p "/sys/fs/cgroup/$cluster_name"; fi

  for tool in "${all_tools[@]}"; do programs+=("$(tool_path "$tool")"); done
  mkdir -p "$state_dir/root"
  # No descriptor of ours may live on in the node: not the lock of the caller,
  # and not a pipe whose reader waits for its end.
  (
    close_descriptors
    exec env -i "PATH=$PATH" setsid nsenter --net="/run/netns/$cluster_name" \
      unshare --mount --pid --uts --ipc --fork \
      bash "$cluster_dir/node/init" "$state_dir" "$node_name" "$node_ip" "${programs[@]}"
  ) < /dev/null > "$state_dir/node/log/init.log" 2>&1 &
  wait_until 10 'the node has its root file system' node_stands || {
    tail -n 20 "$state_dir/node/log/init.log" >&2
    return 1
  }
}

# Closes everything but standard input, output and error. What starts a process
# that stays must do this first.
close_descriptors() {
  local descriptor
  for descriptor in /proc/self/fd/*; do
    descriptor=${descriptor##*/}
    if ((descriptor > 2)); then exec {descriptor}>&-; fi
  done
}

# node_destroy: ends the node and takes away what it had from the kernel. Files
# stay, so that the next node_create is like a reboot.
node_destroy() {
  local pid parent
  if pid=$(node_pid); then
    parent=$(sed -n 's/^PPid:\t//p' "/proc/$pid/status")
    # The kernel ends every process of the PID namespace before PID 1 is gone.
    kill -KILL "$pid" 2> /dev/null || true
    wait_until 30 "process $pid and its waiting parent end" gone "$pid" "$parent"
  fi
  # The cable first: the kernel takes it away with the namespace, but later.
  if [[ -e /sys/class/net/$host_link ]]; then
    ip link del "$host_link" || wait_until 10 "$host_link goes away" test ! -e "/sys/class/net/$host_link"
  fi
  netns_delete
  wait_until 30 "the cgroups of $cluster_name go away" remove_cgroups
}

# gone PID PARENT: the parent is `unshare`, which ends by itself; unless it was
# killed before, then it is something that is none of our business.
gone() {
  [[ ! -e /proc/$1 ]] && [[ $(cat "/proc/$2/comm" 2> /dev/null) != unshare ]]
}

cgroup_folders() {
  find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$cluster_name"
}

remove_cgroups() {
  local folder
  while read -r folder; do
    find "$folder" -depth -type d -exec rmdir {} \; || true
  done < <(cgroup_folders)
  [[ -z $(cgroup_folders) ]]
}
