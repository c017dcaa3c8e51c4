# For jobs: QEMUs under KVM, with the guest of e2e/lab/guest. run.sh in an emulated host sources it;
# it needs the disk with the QEMUs. Each QEMU leaves /out/NAME.log (its output, with QMP) and
# /out/NAME.serial (output of the guest).

# A QEMU that exits at once must not kill the shell.
trap '' PIPE

# The same machine for all QEMUs, so that each loads the streams of the others. No firmware, and
# only the devices of the board.
machine="-machine virt-10.0,gic-version=3 -cpu host -m 64 -smp 1"

# Words in front of QEMU's command line: `/job/bin/cpreg run --`, or nothing. The caller sets them.
through=
# Additional arguments of each QEMU. The caller sets them.
arguments=
# Kernel of the guest. The caller may set another one.
image=/job/guest.bin

# start SERIES NAME ARGUMENTS...: starts a QEMU with QMP on descriptor 3 and the guest's serial port
# on 4
start() {
    series=$1 name=$2
    shift 2
    rm -f /tmp/qmp /tmp/serial.in /tmp/serial.out
    mkfifo /tmp/qmp /tmp/serial.in /tmp/serial.out
    # With descriptors for both directions, opening does not block.
    exec 3<>/tmp/qmp 4<>/tmp/serial.in 5<>/tmp/serial.out
    cat <&5 > /out/$name.serial 3<&- 4<&- &
    reader=$!
    chroot /roots/$series $through /usr/bin/qemu-system-aarch64 -accel kvm $machine -nodefaults -display none -kernel $image \
        -chardev stdio,id=qmp,signal=off -mon chardev=qmp,mode=control \
        -chardev pipe,id=serial,path=/tmp/serial -serial chardev:serial $arguments "$@" \
        < /tmp/qmp > /out/$name.log 2>&1 3<&- 4<&- 5<&- &
    qemu=$!
    echo '{"execute":"qmp_capabilities"}' >&3
}

alive() { kill -0 $qemu 2>/dev/null; }

# wait_for FILE WORDS TENTHS: waits until a line of the file matches, QEMU exits, or the time is
# over; succeeds if a line matches
wait_for() {
    tries=0
    while ! grep -qE "$2" /out/$name.$1 && alive && [ $tries -lt $3 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    grep -qE "$2" /out/$name.$1
}

# stop: makes QEMU quit, kills it after a minute, and records its exit status
stop() {
    alive && echo '{"execute":"query-status"}{"execute":"quit"}' >&3
    tries=0
    while alive && [ $tries -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    alive && kill -9 $qemu
    wait $qemu
    echo $? > /out/$name.exit
    kill $reader
    wait $reader 2>/dev/null
    exec 3<&- 4<&- 5<&-
}

# Lines of a QEMU that cannot save the guest. One that cannot read a register neither completes nor
# fails.
unsaved='"status": "failed"|GenericError|Failed to get registers'

# save_to FILE TENTHS: saves the guest to the file, and waits until QEMU completes this, fails or
# exits, or the time is over
save_to() {
    echo "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat > $1\"}}" >&3
    tries=0
    while alive && [ $tries -lt $2 ]; do
        sleep 0.1
        echo '{"execute":"query-migrate"}' >&3
        grep -qE "\"status\": \"completed\"|$unsaved" /out/$name.log && break
        tries=$((tries + 1))
    done
}

# save SERIES NAME: runs a guest until it has written its registers, and saves it to
# /out/NAME.stream while it runs
save() {
    start "$1" "$2"
    wait_for serial '^READY' 1800 && save_to /out/$2.stream 1200
    stop
}

# save_again: saves the guest once more. Records in /out/NAME.saved `yes` if QEMU completes this, `no`
# if it fails, or `timeout`
save_again() {
    save_to /dev/null 600
    if grep -qE "$unsaved" /out/$name.log || ! alive; then
        echo no
    elif grep -q '"status": "completed"' /out/$name.log; then
        echo yes
    else
        echo timeout
    fi > /out/$name.saved
}

# load SERIES NAME STREAM: loads the stream; if QEMU accepts it, makes the guest check its registers
# and wait for its timers, and saves the guest again
load() {
    start "$1" "$2" -incoming "exec:cat $3"
    if wait_for log '"event": "RESUME"' 1200; then
        # The first byte tells the guest that it was moved; the second that no more timers will
        # fire.
        echo >&4
        wait_for serial '^(DONE|PANIC)' 100 || { echo >&4; wait_for serial '^(DONE|PANIC)' 600; }
        save_again
    fi
    stop
}
