# shellcheck shell=bash
# The files a fresh node starts from.

# fingerprint: of everything they are made from. When it changes, the node is
# made anew instead of living on half old, half new.
fingerprint() {
  local tool
  {
    find "$cluster_dir"/{lib,manifests,node} -type f -print0 | sort -z | xargs -0 cat
    for tool in "${all_tools[@]}"; do
      tool_path "$tool"
      # The cache has another path for other content; a folder of the caller has not.
      ! from_assets "$tool" || stat -L -c '%s %Y' "$(tool_path "$tool")"
    done
  } | sha256sum
}

# Overlay on overlay does not work: a clone inside of a container needs copies.
snapshotter() {
  if [[ $(stat -f -c %T "$state_dir") == overlayfs ]]; then printf native; else printf overlayfs; fi
}

# fill FILE: prints it with the cluster's own values for its @WORDS@.
fill() {
  sed -e "s|@NODE_IP@|$(node_address)|" -e "s|@CGROUP_ROOT@|/$cluster_name|" \
    -e "s|@CONTEXT@|$cluster_name|" -e "s|@SNAPSHOTTER@|$(snapshotter)|" \
    -e "s|@NODE_NAME@|$node_name|" "$1"
}

# write_state: an empty node's files.
write_state() {
  local var=$state_dir/node config=$state_dir/node/lib/kubernetes file tool
  mkdir -p "$state_dir/bin" "$var"/{log,tmp,lib/volumes} "$config"
  chmod 1777 "$var/tmp"
  ln -s ../run "$var/run"
  choose_address > "$state_dir/network"
  for tool in kubectl helm; do ln -s "$(tool_path "$tool")" "$state_dir/bin/$tool"; done

  (write_pki "$config/pki")
  cp "$cluster_dir"/node/{start,components,audit-policy.yaml} "$config"
  for file in containerd.toml kubelet.yaml kube-proxy.yaml Corefile cni/10-deputy.conflist; do
    mkdir -p "$(dirname "$config/$file")"
    fill "$cluster_dir/node/$file" > "$config/$file"
  done
  fingerprint > "$state_dir/fingerprint"
}
