# For jobs: a guest with Debian's kernel and running processes, or with another granule, under KVM.
# run.sh sources it after qemu.sh, whose functions it uses. Each QEMU leaves the files of qemu.sh.
machine="-machine virt-10.0,gic-version=3 -cpu host -m 256 -smp 2"
image=/job/Image
# Linux finds the console in the device tree. The guest with another granule has no initramfs.
[ ! -e /job/busy.cpio ] || arguments="-initrd /job/busy.cpio -append quiet"

# boot SERIES NAME: boots a guest, and saves it to /out/NAME.stream when its processes run
boot() {
    start "$1" "$2"
    wait_for serial '^READY' 6000 && save_to /out/$2.stream 6000
    stop
}

# move SERIES NAME STREAM: loads the stream, makes the guest check its machine, and saves it to
# /out/NAME.stream
move() {
    start "$1" "$2" -incoming "exec:cat $3"
    if wait_for log '"event": "RESUME"' 1200; then
        # The watch takes samples at the new host.
        sleep 2
        echo >&4
        wait_for serial '^AGAIN' 3000 && save_to /out/$2.stream 6000
    fi
    stop
}

# move_with_consent SERIES NAME STREAM: moves the guest with `cpreg run`, and the smallest
# sufficient consent; writes the consent to /out/consent
move_with_consent() {
    for consent in none low medium; do
        accept=
        [ $consent = none ] || accept="--accept $consent"
        through="/job/bin/cpreg run $accept --"
        move "$1" "$2" "$3"
        grep -q '"event": "RESUME"' /out/$2.log && break
        cp /out/$2.log /out/$2-$consent.log
    done
    through=
    echo $consent > /out/consent
}
