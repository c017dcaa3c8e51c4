//! [`serve()`]: the guard's process: takes orders, watches both QEMUs, says what it did, and ends when it is settled where the VM is.
//!
//! Leaving the relay's session and not ending by signals is for the caller, before; this needs only the two streams. If the relay is
//! gone the last word has nobody to go to, so it is given back as well.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;

use super::engine::Guard;
use super::error::GuardError;
use super::protocol::{Order, Told};
use super::whereabouts::Whereabouts;

/// The longest order, in bytes: two paths.
const ORDER_LIMIT: u64 = 64 << 10;

/// How the guard's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where the VM is; nothing if the relay went away before any monitor was connected.
    pub whereabouts: Option<Whereabouts>,
    /// Whether the relay was there to hear it.
    pub was_heard: bool,
}

/// Leaves the session of the relay, so that neither its terminal nor a signal to its process group reaches the guard. To be called first
/// of all: before the relay gets an answer.
///
/// # Errors
/// If this process already leads a process group (setsid(2)): it was not started by a [`super::Keeper`].
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Serves one relay and one VM.
pub fn serve(orders: impl Read + Send + 'static, answers: impl Write) -> Served {
    let orders = listen(orders);
    let mut answers = Answers {
        to: answers,
        is_heard: true,
    };
    let Some(mut guard) = begin(&orders, &mut answers) else {
        return Served {
            whereabouts: None,
            was_heard: answers.is_heard,
        };
    };
    let mut is_there = true;
    loop {
        // All that was said before it went away counts.
        while is_there {
            match orders.try_recv() {
                Ok(order) => obey(&mut guard, order, &mut answers),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => is_there = false,
            }
        }
        if !is_there {
            guard.ended();
        }
        let concluded = guard.step();
        for what in guard.take_done() {
            answers.say(&Told::Did { what });
        }
        if let Some(whereabouts) = concluded {
            answers.say(&Told::Concluded {
                whereabouts: whereabouts.clone(),
            });
            return Served {
                whereabouts: Some(whereabouts),
                was_heard: answers.is_heard && is_there,
            };
        }
        if is_there {
            match orders.recv_timeout(guard.pace()) {
                Ok(order) => obey(&mut guard, order, &mut answers),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_there = false,
            }
        } else {
            thread::sleep(guard.pace());
        }
    }
}

/// Takes orders until both monitors are connected and both VMs are as they should be.
fn begin<W: Write>(orders: &Receiver<Order>, answers: &mut Answers<W>) -> Option<Guard> {
    while let Ok(order) = orders.recv() {
        let Order::Connect { source, dest } = order else {
            if matches!(order, Order::Ended) {
                return None;
            }
            answers.fail(&GuardError::new("`connect` comes first"));
            continue;
        };
        let connected = Guard::connect(source.as_deref(), dest.as_deref())
            .and_then(|mut guard| guard.survey().map(|survey| (guard, survey)));
        match connected {
            Ok((guard, survey)) => {
                if !survey.is_unfinished {
                    answers.say(&Told::Connected {
                        source: survey.source,
                        dest: survey.dest,
                        notes: survey.notes,
                    });
                }
                // If it is, `concluded` is the answer.
                return Some(guard);
            }
            Err(error) => answers.fail(&error),
        }
    }
    None
}

fn obey<W: Write>(guard: &mut Guard, order: Order, answers: &mut Answers<W>) {
    match order {
        Order::Connect { .. } => answers.fail(&GuardError::new("it is connected already")),
        Order::Prepare => match guard.prepare() {
            Ok(ready) => answers.say(&Told::Prepared {
                return_path_switched_on: ready.return_path_switched_on,
                held: ready.held,
                notes: ready.notes,
            }),
            Err(error) => answers.fail(&error),
        },
        Order::Start { uri } => match guard.start(&uri) {
            Ok(()) => answers.say(&Told::Started),
            Err(error) => answers.fail(&error),
        },
        Order::Began => guard.began(),
        Order::Passing { running } => guard.passing(running),
        Order::Refused => guard.refused(),
        Order::Delivered => guard.delivered(),
        Order::Ended => guard.ended(),
    }
}

/// Reads orders until their end, or until something comes that is none: who writes that is no relay, and counts as gone.
fn listen(orders: impl Read + Send + 'static) -> Receiver<Order> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut orders = BufReader::new(orders);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut orders).take(ORDER_LIMIT).read_until(b'\n', &mut line);
            // A last line without an end was cut short, and is not obeyed.
            if !matches!(read, Ok(1..)) || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(order) = serde_json::from_slice(&line) else {
                break;
            };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Where the answers go, as long as somebody reads them.
#[derive(Debug)]
struct Answers<W> {
    to: W,
    is_heard: bool,
}

impl<W: Write> Answers<W> {
    fn say(&mut self, told: &Told) {
        let Ok(mut line) = serde_json::to_vec(told) else {
            return;
        };
        line.push(b'\n');
        let written = self.to.write_all(&line).and_then(|()| self.to.flush());
        self.is_heard &= written.is_ok();
    }

    fn fail(&mut self, error: &GuardError) {
        self.say(&Told::Failed {
            message: error.message.clone(),
            hint: error.hint.clone(),
        });
    }
}
