# For jobs: a domain of libvirt, whose QEMU runs under KVM with cpreg preloaded. run.sh sources it.
# Each step leaves a line `NAME STATUS COUNT` in /out/steps. COUNT is the counter in the guest's
# RAM, or - if the domain does not run here.
root=/tmp/libvirt
words=3000

v() { timeout 600 chroot $root /usr/bin/virsh -q -c qemu:///system "$@"; }

# count: the guest's counter
count() {
    text=$(v qemu-monitor-command web --hmp 'xp /1gx 0x41000000' 2> /dev/null)
    value=${text##*: }
    echo "${value:--}" | tr -d '\r\n'
}

# step NAME COMMAND...: runs a command, and records its status
step() {
    name=$1
    shift
    "$@" > /out/$name.output 2>&1
    status=$?
    echo "$name $status $(count)" >> /out/steps
    echo "step $name: $status"
    return $status
}

# set_up HOSTNAME OPTIONS-OF-CPREG-RUN...: unpacks libvirt, starts it, and writes the domain
set_up() {
    hostname $1
    shift
    mkdir -p $root
    tar xf /job/libvirt.tar -C $root || return 1
    mount -t proc proc $root/proc
    mount -t sysfs sys $root/sys
    for place in dev job out; do mount --bind /$place $root/$place; done
    printf '127.0.0.1 localhost\n10.0.0.1 first\n10.0.0.2 second\n' > $root/etc/hosts
    cp /job/bin/cpreg $root/usr/bin/
    cp /job/bin/libcpreg_interpose.so $root/usr/lib/cpreg/
    chroot $root /usr/sbin/libvirtd -l > /out/libvirtd.log 2>&1 &
    daemon=$!
    turns=0
    while kill -0 $daemon && ! v list > /dev/null 2>&1 && [ $turns -lt 300 ]; do
        sleep 1
        turns=$((turns + 1))
    done
    chroot $root /usr/bin/cpreg run --print-libvirt "$@" > /out/elements.xml
    domain > $root/tmp/web.xml
}

domain() {
    cat <<END
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='aarch64' machine='virt-10.0'>hvm</type><kernel>/job/guest.bin</kernel></os>
  <features><gic version='3'/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <emulator>/usr/bin/qemu-system-aarch64</emulator>
    <controller type='usb' model='none'/>
    <controller type='pci' model='pcie-root'/>
    <serial type='file'><source path='/tmp/serial.log'/></serial>
    <memballoon model='none'/>
  </devices>
$(cat /out/elements.xml)
</domain>
END
}

# wait_for_guest: waits until the guest has written its registers
wait_for_guest() {
    turns=0
    while ! grep -q '^READY' $root/tmp/serial.log && [ $turns -lt 120 ]; do
        sleep 1
        turns=$((turns + 1))
    done
    grep -q '^READY' $root/tmp/serial.log
}

# is_running: succeeds if the domain runs here
is_running() { [ "$(v domstate web)" = running ]; }

say() {
    turns=0
    while ! echo $2 | nc $1 $words > /dev/null 2>&1 && [ $turns -lt 6000 ]; do
        sleep 0.1
        turns=$((turns + 1))
    done
}

hear() { timeout 900 nc -l -p $words < /dev/null; }

# migrate PEER: migrates the domain to the libvirt of another host
migrate() {
    # The guest dirties memory faster than an emulated network sends it.
    v migrate-setmaxdowntime web 5000
    v migrate --live --migrateuri tcp://$1:49152 web qemu+tcp://$1/system
}

# finish: keeps QEMU's logs
finish() {
    cp $root/var/log/libvirt/qemu/web.log /out/web.log
    v destroy web > /dev/null 2>&1
}

# first PEER: starts, saves and restores the domain, migrates it, and gets it back
first() {
    step define v define /tmp/web.xml
    step start v start web
    step guest wait_for_guest
    step save v save web /tmp/web.save
    step restore v restore /tmp/web.save
    step restored is_running
    hear
    step migrate migrate $1
    say $1 sent
    hear
    step returned is_running
    finish
}

# second PEER: gets the domain, and migrates it back
second() {
    say $1 ready
    hear
    step arrived is_running
    step back migrate $1
    say $1 sent
    finish
}
