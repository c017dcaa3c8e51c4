# For jobs: live migrations between the QEMUs of two emulated hosts, over the network between them.
# run.sh sources it after qemu.sh, whose functions it uses. Each end leaves the files of its QEMU.
# With cpreg, the receiving end also leaves /out/NAME.relay (log), NAME.report and NAME.relay-exit.

# Port for messages between the two ends.
words=3000

# ask COMMAND ARGUMENTS KIND: sends a command of QMP and waits for its reply, which has the id
# KIND-NUMBER
asked=0
ask() {
    asked=$((asked + 1))
    echo "{\"execute\":\"$1\",\"arguments\":$2,\"id\":\"$3-$asked\"}" >&3
    wait_for log "\"id\": \"$3-$asked\"" 1200
    answer=$(grep "\"id\": \"$3-$asked\"" /out/$name.log)
}

# set_up CAPABILITIES PARAMETERS: sets both, in QMP's syntax
set_up() {
    ask migrate-set-capabilities "{\"capabilities\":[$1]}" set
    ask migrate-set-parameters "{$2}" set
}

# look_at_guest: makes the guest report its findings and its counter, and end
look_at_guest() {
    sleep 1
    echo >&4
    wait_for serial '^(DONE|PANIC)' 1200
}

# relays: succeeds if cpreg is not used, or runs
relays() { [ -z "$relay" ] || kill -0 $relay 2>/dev/null; }

# wait_for_port PORT: succeeds once a process listens. A check by connecting would be mistaken for
# the source, so the listener is found in /proc
wait_for_port() {
    turns=0
    while [ $turns -lt 1200 ] && relays; do
        grep -q ":$(printf %04X $1) [0-9A-F:]* 0A" /proc/net/tcp /proc/net/tcp6 && return
        sleep 0.1
        turns=$((turns + 1))
    done
    return 1
}

# receive SERIES NAME PEER PORT CAPABILITIES PARAMETERS [ARGUMENTS-OF-RELAY...]: the destination,
# with cpreg in between if there are arguments for it
receive() {
    series=$1 peer=$3 port=$4 capabilities=$5 parameters=$6
    start "$series" "$2" -incoming defer
    shift 6
    set_up "$capabilities" "$parameters"
    relay=
    if [ $# -gt 0 ]; then
        ask migrate-incoming "{\"uri\":\"unix:/tmp/$name.socket\"}" set
        cpreg relay --listen tcp:0.0.0.0:$port --connect unix:/tmp/$name.socket "$@" > /out/$name.report 2> /out/$name.relay 3<&- 4<&- 5<&- &
        relay=$!
    else
        ask migrate-incoming "{\"uri\":\"tcp:0.0.0.0:$port\"}" set
    fi
    word=nobody
    wait_for_port $port && word=ready
    turns=0
    while ! echo $word | nc $peer $words > /dev/null 2>&1 && [ $turns -lt 6000 ]; do
        sleep 0.1
        turns=$((turns + 1))
    done
    if [ $word = ready ]; then
        # If cpreg has exited and the guest does not run here, it will not.
        turns=0
        after=0
        while [ $turns -lt 3000 ] && [ $after -lt 100 ] && ! wait_for log '"event": "RESUME"' 1 && alive; do
            relays || after=$((after + 1))
            turns=$((turns + 1))
        done
        # After a switch to postcopy, the guest runs before all its memory has arrived.
        turns=0
        while alive && [ $turns -lt 600 ]; do
            ask query-migrate '{}' received
            case $answer in *'"status": "active"'* | *'"status": "postcopy-active"'*) ;; *) break ;; esac
            sleep 0.2
            turns=$((turns + 1))
        done
        wait_for log '"event": "RESUME"' 1 && look_at_guest
    fi
    if [ -n "$relay" ]; then
        turns=0
        while kill -0 $relay 2>/dev/null && [ $turns -lt 600 ]; do
            sleep 0.1
            turns=$((turns + 1))
        done
        kill -9 $relay 2>/dev/null
        wait $relay
        echo $? > /out/$name.relay-exit
    fi
    stop
}

# serve NAME OPTIONS...: the relay of all migrations to this host, to which the firewall redirects
serve() {
    served=$1 relay=
    shift
    nft -f /job/relay.nft || echo "no firewall" > /out/error
    cpreg relay --serve --log-format json "$@" 2> /out/$served-destination.relay &
    server=$!
    wait_for_port 49151
}

# end_serve: ends the relay. Its log has one line for the migration
end_serve() {
    kill $server
    wait $server
    nft delete table inet cpreg_relay
}

# send SERIES NAME PEER PORT CAPABILITIES PARAMETERS [now]: the source; `now` switches to postcopy
# as soon as possible
send() {
    peer=$3 port=$4 capabilities=$5 parameters=$6 postcopy=$7
    start "$1" "$2"
    wait_for serial '^READY' 1800
    set_up "$capabilities" "$parameters"
    # The word is `nobody` if the destination does not listen.
    word=$(timeout 600 nc -l -p $words < /dev/null)
    [ "$word" = ready ] && ask migrate "{\"uri\":\"tcp:$peer:$port\"}" migrate
    turns=0
    while [ "$word" = ready ] && alive && [ $turns -lt 1200 ]; do
        ask query-migrate '{}' migration
        case $answer in
            *'"status": "completed"'* | *'"status": "failed"'* | *'"status": "postcopy-paused"'*) break ;;
            *'"status": "active"'*) [ -n "$postcopy" ] && ask migrate-start-postcopy '{}' postcopy && postcopy= ;;
        esac
        sleep 0.2
        turns=$((turns + 1))
    done
    # The counter at the stop of the guest, or its current value if the guest runs here.
    ask human-monitor-command '{"command-line":"xp /1gx 0x41000000"}' counted
    ask query-status '{}' run
    case $answer in *'"running": true'*) look_at_guest ;; esac
    stop
}

# The disk with the snapshot of a case, for `-drive`
disk() { echo "-drive if=none,format=qcow2,file=/tmp/$1.qcow2"; }

# send_snapshot SERIES NAME PEER PORT: stops the guest, saves it with `savevm`, and sends the disk
send_snapshot() {
    cp /job/empty.qcow2 /tmp/snapshot.qcow2
    arguments="$(disk snapshot)"
    start "$1" "$2"
    arguments=
    wait_for serial '^READY' 1800
    ask stop '{}' set
    ask human-monitor-command '{"command-line":"savevm suspend"}' savevm
    ask human-monitor-command '{"command-line":"xp /1gx 0x41000000"}' counted
    ask query-status '{}' run
    stop
    timeout 600 nc -l -p $4 < /tmp/snapshot.qcow2
    rm -f /tmp/snapshot.qcow2
}

# receive_snapshot SERIES NAME PEER PORT: receives the disk, and starts from the snapshot
receive_snapshot() {
    turns=0
    while [ ! -s /tmp/snapshot.qcow2 ] && [ $turns -lt 6000 ]; do
        nc $3 $4 > /tmp/snapshot.qcow2 2> /dev/null
        sleep 0.1
        turns=$((turns + 1))
    done
    arguments="$(disk snapshot)"
    # QMP reports a RESUME only after its negotiation.
    start "$1" "$2" -S -loadvm suspend
    arguments=
    wait_for log '"return": \{\}' 1200 && echo '{"execute":"cont"}' >&3
    wait_for log '"event": "RESUME"' 1200 && look_at_guest
    stop
    rm -f /tmp/snapshot.qcow2
}
