# shellcheck shell=bash
# What a machine shows of a cluster, as lines of text that `diff` can compare.
# Other clones of this repository may come and go meanwhile: their lines are left out.

# traced COMMAND...: runs it so that every process it starts can be told later, and
# with folders of its own for the user's and for temporary files.
traced() {
  env "DEPUTY_SELFTEST=$$" "HOME=$work/home" "XDG_CACHE_HOME=${cache_dir%/deputy}" "TMPDIR=$work/temporary" "$@"
}

# machine_traces: everything of the machine that a cluster might leave something in.
machine_traces() {
  {
    process_traces
    mount_traces
    network_traces
    file_traces
    setting_traces
  } | sed -E "/$cluster_hash/!{/(deputy|dpty)-[0-9a-f]{8}/d}"
}

# Processes that a traced command has started, whatever became of their parents,
# those that a node had, and those in a cgroup of ours, as the pods'.
process_traces() {
  local pid
  {
    grep -lszxF "DEPUTY_SELFTEST=$$" /proc/[0-9]*/environ || true
    grep -ls "/$cluster_name" /proc/[0-9]*/cgroup || true
    all_processes | awk 'NR == FNR { seen[$1 " " $2]; next } $1 " " $2 in seen { print "/proc/" $1 "/" }' "$work/seen" -
  } | cut -d / -f 3 | sort -u | while read -r pid; do
    [[ ! -e /proc/$pid ]] || printf 'process %s: %s\n' "$pid" "$(tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline")"
  done
}

# all_processes: of the machine, as PID START PARENT NAME. With its start a number
# that was used again is not taken for the same process.
all_processes() {
  local file line pid name
  for file in /proc/[0-9]*/stat; do
    { read -r line < "$file"; } 2> /dev/null || continue
    pid=${line%% *} name=${line#*(} name=${name%)*} line=${line##*) }
    read -ra line <<< "$line"
    printf '%s %s %s %s\n' "$pid" "${line[19]}" "${line[1]}" "$name"
  done
}

# node_processes: those of the node, its own and the pods', in the same form.
node_processes() {
  all_processes | sort -n | awk -v "first=$(node_pid)" '
    { line[NR] = $0; pid[NR] = $1; parent[NR] = $3 }
    END {
      ours[first]
      do {
        found = 0
        for (i in pid) if (!(pid[i] in ours) && parent[i] in ours) { ours[pid[i]]; found = 1 }
      } while (found)
      for (i = 1; i <= NR; i++) if (pid[i] in ours) print line[i]
    }'
}

mount_traces() { awk '{print "mount " $5}' /proc/self/mountinfo | sort; }

network_traces() {
  ip netns list | awk '{print "network namespace " $1}' | sort
  ip -br link | awk '{print "link " $1}' | sort
  ip -br addr | awk '{$2 = ""; print "address " $0}' | sort
  { ip -4 route show table all && ip -6 route show table all; } | sed -E 's/^/route /; s/ expires [0-9]+sec//' | sort
  { iptables-save && ip6tables-save; } | sed -E '/^#/d; s/\[[0-9]+:[0-9]+\]//; s/^/iptables /'
}

# Our own files, and the names in every folder where such programs keep theirs.
file_traces() {
  local folder
  find "$repo_dir" -xdev \( -path "$repo_dir/.git" -o -path "$repo_dir/target" \) -prune -o -printf 'file %p\n' | sort
  find "$work"/{home,temporary} -mindepth 1 -printf 'file %p\n' | sort
  for folder in /etc /etc/cni /etc/containerd /opt /opt/cni /run /run/containerd /var/lib /var/lib/{cni,containerd,kubelet} /var/log; do
    [[ ! -d $folder ]] || find "$folder" -mindepth 1 -maxdepth 1 -printf 'file %p\n' | sort
  done
  cgroup_folders | sed 's/^/cgroup /' | sort
}

# Settings of the whole machine that kubelet or kube-proxy like to change.
setting_traces() {
  local setting
  for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/hostname \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes net/ipv4/ip_forward net/ipv4/conf/all/route_localnet \
    net/netfilter/nf_conntrack_max; do
    [[ ! -e /proc/sys/$setting ]] || printf 'setting %s %s\n' "$setting" "$(< "/proc/sys/$setting")"
  done
}

# state_traces: what `up` has written, by the time of its last change.
state_traces() {
  find "$state_dir" -xdev \( -path "$state_dir/node/log" -o -path "$state_dir/node/lib/*" ! -path "$state_dir/node/lib/kubernetes*" \
    -o -path "$state_dir/kubectl-cache" \) -prune -o -printf '%p %T@\n' | sort
}
