# Sourced by the scripts that run containers. Needs no image registry: Debian's image is made with debootstrap. The images,
# networks and settings are the scripts' own, under target/containers, so those of the machine are not touched and
# everything can be deleted.
# The sourcing script sets `root` and defines `fail`.

# The names of Debian's images in Dockerfile and docker-compose.yml.
debian=docker.io/library/debian:bookworm-slim

target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$root/$target
work=$target/containers

[[ $(id -u) == 0 ]] || fail "run it as root: making base images needs it"
command -v apt-get >/dev/null || fail "this needs Debian or Ubuntu: images are made with debootstrap"
mkdir -p "$work"

# Installs what is missing of podman, debootstrap and further COMMAND:PACKAGE pairs.
install_podman() {
  local pair missing=()
  # iptables, netavark and aardvark-dns give containers networks, names and published ports.
  for pair in podman:podman runc:runc debootstrap:debootstrap iptables:iptables "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [[ -x /usr/lib/podman/netavark ]] || missing+=(netavark)
  [[ -x /usr/lib/podman/aardvark-dns ]] || missing+=(aardvark-dns)
  if ((${#missing[@]})); then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
      fail "apt-get could not install ${missing[*]}"
  fi
}

configure_podman() {
  cat >"$work/containers.conf" <<CONF
[containers]
# Some machines refuse podman's own, higher, limits.
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
# There may be no systemd for journals and control groups.
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$work/networks"
CONF
  cat >"$work/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
CONF
  export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
}

has_image() { podman image exists "$1"; }

# Debian 12 with the packages that every Debian has, and no other.
make_debian() {
  has_image "$debian" && return
  rm -rf "$work/debian"
  debootstrap --variant=minbase bookworm "$work/debian" http://deb.debian.org/debian >"$work/debootstrap.log" ||
    fail "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
  tar -C "$work/debian" -c . | podman import --quiet --change 'CMD ["bash"]' - "$debian" >/dev/null
  rm -rf "$work/debian"
}

# Makes an image from another by shell commands: NAME FROM COMMANDS [OPTIONS OF COMMIT…]
derive() {
  local name=$1 from=$2 commands=$3
  shift 3
  has_image "$name" && return
  podman rm -f derive >/dev/null 2>&1 || true
  podman run --name derive --env DEBIAN_FRONTEND=noninteractive "$from" sh -ec "$commands" >"$work/derive.log" 2>&1 ||
    fail "cannot make $name: $(tail -n 5 "$work/derive.log")"
  podman commit --quiet "$@" derive "$name" >/dev/null
  podman rm derive >/dev/null
}
