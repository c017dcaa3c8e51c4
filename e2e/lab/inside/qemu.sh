# For jobs: QEMUs under KVM, with the guest of e2e/lab/guest. Sourced by run.sh in an emulated host; needs the disk with the QEMUs.
# Each QEMU leaves /out/NAME.log (what it wrote, its QMP among it) and /out/NAME.serial (what the guest said). They are judged elsewhere.

# A QEMU that dies at once must not take the shell with it.
trap '' PIPE

# The machine, the same everywhere, so that what comes from one loads in the other. No firmware, no devices besides those of the board.
machine="-machine virt-10.0,gic-version=3 -cpu host -m 64 -smp 1"

# start SERIES NAME ARGUMENTS...: QMP is on descriptor 3, the guest's serial port on 4
start() {
    series=$1 name=$2
    shift 2
    rm -f /tmp/qmp /tmp/serial.in /tmp/serial.out
    mkfifo /tmp/qmp /tmp/serial.in /tmp/serial.out
    # Opened for both directions, nobody waits for the other side to open it.
    exec 3<>/tmp/qmp 4<>/tmp/serial.in 5<>/tmp/serial.out
    cat <&5 > /out/$name.serial 3<&- 4<&- &
    reader=$!
    chroot /roots/$series /usr/bin/qemu-system-aarch64 -accel kvm $machine -nodefaults -display none -kernel /job/guest.bin \
        -chardev stdio,id=qmp,signal=off -mon chardev=qmp,mode=control \
        -chardev pipe,id=serial,path=/tmp/serial -serial chardev:serial "$@" \
        < /tmp/qmp > /out/$name.log 2>&1 3<&- 4<&- 5<&- &
    qemu=$!
    echo '{"execute":"qmp_capabilities"}' >&3
}

alive() { kill -0 $qemu 2>/dev/null; }

# wait_for FILE WORDS TENTHS: until a line of the file matches, QEMU ends, or the time is over; says whether it does
wait_for() {
    tries=0
    while ! grep -qE "$2" /out/$name.$1 && alive && [ $tries -lt $3 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    grep -qE "$2" /out/$name.$1
}

# stop: asks QEMU to quit, kills it if it does not within a minute, and notes its exit status
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

# save SERIES NAME: runs a guest until it has written its registers, and saves it to /out/NAME.stream while it runs
save() {
    start "$1" "$2"
    if wait_for serial '^READY' 1800; then
        echo "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat > /out/$2.stream\"}}" >&3
        tries=0
        while alive && [ $tries -lt 1200 ]; do
            sleep 0.1
            echo '{"execute":"query-migrate"}' >&3
            grep -qE '"status": "(completed|failed)"|GenericError' /out/$2.log && break
            tries=$((tries + 1))
        done
    fi
    stop
}

# load SERIES NAME STREAM: loads it, and if QEMU takes it has the guest look at its registers and wait for its timers
load() {
    start "$1" "$2" -incoming "exec:cat $3"
    if wait_for log '"event": "RESUME"' 1200; then
        # The first byte tells the guest that it was moved; the second that no more timers will come.
        echo >&4
        wait_for serial '^(DONE|PANIC)' 100 || { echo >&4; wait_for serial '^(DONE|PANIC)' 600; }
    fi
    stop
}
