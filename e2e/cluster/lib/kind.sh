# shellcheck shell=bash
# CLUSTER=kind: for machines where Docker and kind really work. The name is that
# of our own cluster, so that each clone has one of its own here as well.

kind_kubeconfig=$state_dir/kind.kubeconfig

require_kind() {
  local said
  command -v docker > /dev/null || die 'CLUSTER=kind needs docker, which is not installed'
  said=$(docker info 2>&1) || die "CLUSTER=kind needs a Docker engine, and none answers: ${said##*$'\n'}"
  command -v kind > /dev/null || die 'CLUSTER=kind needs kind, which is not installed (https://kind.sigs.k8s.io)'
}

kind_exists() {
  local clusters
  clusters=$(kind get clusters 2> /dev/null) || return
  [[ $'\n'$clusters$'\n' == *$'\n'"$cluster_name"$'\n'* ]]
}

kind_up() {
  require_kind
  mkdir -p "$state_dir"
  kind_exists || step "create kind cluster $cluster_name" \
    kind create cluster --name "$cluster_name" --kubeconfig "$kind_kubeconfig" --wait 3m
  kind_kubeconfig
  step 'load busybox image' load_busybox
  printf 'export KUBECONFIG=%s\n' "$kind_kubeconfig"
}

# kind_kubeconfig: writes the file anew, since it may be older than the cluster.
kind_kubeconfig() {
  require_kind
  kind_exists || die 'the kind cluster is not up: run CLUSTER=kind e2e/cluster/up'
  kind export kubeconfig --name "$cluster_name" --kubeconfig "$kind_kubeconfig" 2> /dev/null
}

kind_down() {
  require_kind
  step "delete kind cluster $cluster_name" kind delete cluster --name "$cluster_name" --kubeconfig "$kind_kubeconfig"
  rm -f "$kind_kubeconfig"
  tidy_state
}
