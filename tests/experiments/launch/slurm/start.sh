#!/usr/bin/env bash
# Starts a one-node Slurm on this machine, for the tests. Needs root; installs Slurm with apt-get
# if it is missing. Another Slurm, if there is one, is left alone, and running this twice is
# harmless; after a change of the settings below, it restarts its own. When it cannot, it says why in
# one line and exits 1.
set -euo pipefail

conf=/etc/slurm/slurm.conf
home=/var/lib/mtp-test-slurm # the controller's state, the node's spool, the logs
mark="# One node for tests, written by tests/experiments/launch/slurm/start.sh"

fail() { echo "Slurm could not be started: $*" >&2; exit 1; }
answers() { timeout 10 sinfo >/dev/null 2>&1; }
usable() { timeout 10 sinfo -h -o %T 2>/dev/null | grep -qxE 'idle|mixed|allocated|completing'; }
running() { [ "$(cat "/proc/$(cat "$home/$1.pid" 2>/dev/null)/comm" 2>/dev/null)" = "$1" ]; }

if [ -n "${SLURM_CONF:-}" ] || [ "$(head -n 1 "$conf" 2>/dev/null)" != "$mark" ]; then
  answers && exit 0 # a real Slurm
  [ ! -e "${SLURM_CONF:-$conf}" ] || fail "${SLURM_CONF:-$conf} is not ours, and its Slurm does not answer"
fi
name=$(hostname -s)
cpus=$(nproc)
[ "$cpus" -ge 2 ] || cpus=2 # two jobs side by side, even on one core

# linuxproc and task/none need no cgroups, so that this also works in a container.
# config_overrides: the node has what is written here, whatever it finds; a job may ask for any
#   memory, and for four GPUs, which are empty files.
# cred_expire: a requeued job waits that long before it starts again; 120 s unless told.
# KillWait: from SIGTERM to SIGKILL.
# A job in "urgent" preempts one in "main", which gets its --signal and then has GraceTime.
# A job in "cancelled" is cancelled by one in "urgent", not requeued; it gets SIGTERM, then KillWait.
# FirstJobId: never the id of an earlier start, whose results may lie in the same folder.
settings() {
  cat <<END
$mark
ClusterName=test
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthInfo=cred_expire=5
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
FirstJobId=$(($(date +%s) % 60000000))
JobRequeue=1
KillWait=15
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=4000000 Gres=gpu:4
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=20
PartitionName=cancelled Nodes=$name MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL GraceTime=0
PartitionName=urgent Nodes=$name MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
END
}

ours() { settings | grep -v ^FirstJobId= | cmp -s - <(grep -v ^FirstJobId= "$conf"); }
if [ -e "$conf" ] && ours; then
  usable && exit 0
fi
[ "$(id -u)" = 0 ] || fail "not root"

for tool in slurmctld slurmd sbatch srun munged; do
  command -v "$tool" >/dev/null && continue
  command -v apt-get >/dev/null || fail "$tool is not installed, and there is no apt-get"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { timeout 300 apt-get update \
    && timeout 900 apt-get install -y --no-install-recommends slurm-wlm munge; } >"$log" 2>&1 \
    || fail "apt-get failed: $(grep '^E' "$log" | tail -n 1) ($log)"
  break
done

mkdir -p /etc/slurm "$home"/{state,spool,gpu}
touch "$home"/gpu/gpu{0,1,2,3}
if ! { [ -e "$conf" ] && ours; }; then
  for daemon in slurmd slurmctld; do # which run with other settings
    running "$daemon" || continue
    kill "$(cat "$home/$daemon.pid")"
    for _ in $(seq 100); do running "$daemon" && sleep 0.1; done
  done
  settings >"$conf"
fi
echo "NodeName=$name Name=gpu File=$home/gpu/gpu[0-3]" >/etc/slurm/gres.conf

if ! munge -n >/dev/null 2>&1; then
  install -d -o munge -m 755 /run/munge
  setpriv --reuid munge --regid munge --init-groups munged --force </dev/null >"$home/munged.out" 2>&1 \
    || fail "munged: $(tail -n 1 "$home/munged.out")"
fi
# -c: no jobs left from an earlier start
running slurmctld || slurmctld -c </dev/null >/dev/null 2>&1 || fail "slurmctld ($home/slurmctld.log)"
running slurmd || slurmd -c </dev/null >/dev/null 2>&1 || fail "slurmd ($home/slurmd.log)"

for _ in $(seq 60); do
  usable && exit 0
  sleep 0.5
done
fail "no node after 30 s: $(sinfo -h -o '%T %E' 2>&1 | tail -n 1) ($home)"
