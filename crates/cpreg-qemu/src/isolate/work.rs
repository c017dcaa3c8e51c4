//! A command line while it is gone through: each option is given to the module that knows it, and what comes of it is kept.
//!
//! What an option's treatment is lives in [`super::options`]. What is so short that it needs no module is here: character
//! devices, displays, sound, shared folders.

use std::ffi::{OsStr, OsString};

use super::disks::{self, Nodes};
use super::isolated::{Change, Unjudged};
use super::network::{self, Network};
use super::options::{self, Looked, Part, Treatment};
use super::surroundings::Surroundings;
use super::values::Values;
use super::{devices, objects};
use crate::error::{Error, ErrorKind};

const CONSOLE: &str = "nothing may be connected to, listened on or written to";
const SEEN: &str = "no display may be opened";
const SOUND: &str = "no sound may be played or recorded";
const SHARED: &str = "no folder of this host is shared: an empty one stands in";

/// A command line while it is gone through.
pub(super) struct Work<'a> {
    keep: &'a [String],
    around: &'a dyn Surroundings,
    pub(super) options: Vec<OsString>,
    pub(super) changes: Vec<Change>,
    pub(super) unjudged: Vec<Unjudged>,
    nodes: Nodes,
    pub(super) network: Network<'a>,
    /// Network backends: name and kind.
    backends: Vec<(String, String)>,
    wants_silence: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(keep: &'a [String], around: &'a dyn Surroundings) -> Self {
        Self {
            keep,
            around,
            options: Vec::new(),
            changes: Vec::new(),
            unjudged: Vec::new(),
            nodes: Nodes::default(),
            network: Network::new(around),
            backends: Vec::new(),
            wants_silence: false,
        }
    }

    /// Notes what other options refer to.
    pub(super) fn look_around(&mut self, part: &Part<'_>) {
        let Some(known) = part.known else { return };
        let Treatment::Looked(looked) = known.treatment else {
            return;
        };
        let first = first_key(looked);
        let text = part.value().and_then(OsStr::to_str);
        let Some(values) = text.and_then(|text| Values::read(text, first)) else {
            return;
        };
        match looked {
            Looked::Blockdev => self.nodes.add(values),
            Looked::Device => self.network.device(&values),
            Looked::Netdev => {
                let pair = values.get("id").zip(values.get("type"));
                self.backends
                    .extend(pair.map(|(id, kind)| (id.to_owned(), kind.to_owned())));
            }
            Looked::Machine => {
                let flash = ["pflash0", "pflash1"]
                    .into_iter()
                    .filter_map(|key| values.get(key));
                flash.for_each(|node| self.nodes.is_flash(node));
            }
            _ => {}
        }
    }

    pub(super) fn part(&mut self, part: &Part<'_>) -> Result<(), Error> {
        if self.is_kept(part) {
            self.options.extend_from_slice(part.words);
            return Ok(());
        }
        let Some(name) = part.name else {
            return self.disk(
                part,
                part.words.first().map(OsString::as_os_str),
                "index=0,media=disk",
            );
        };
        let Some(known) = part.known else {
            let reason = "this option is not known here, nor what it does";
            return Err(refusal(
                part,
                reason,
                Some(name.to_string_lossy().into_owned()),
            ));
        };
        if known.takes_value && part.value().is_none() {
            return Err(refusal(part, "its value is missing", None));
        }
        match known.treatment {
            Treatment::Keep => self.options.extend_from_slice(part.words),
            Treatment::Drop(reason) => self.change(part, Vec::new(), reason),
            Treatment::Instead(words, reason) => {
                self.change(part, words.iter().map(OsString::from).collect(), reason);
            }
            Treatment::Refuse(reason) => {
                return Err(refusal(part, reason, Some(known.name.to_owned())));
            }
            Treatment::Looked(Looked::Disk(place)) => return self.disk(part, part.value(), place),
            Treatment::Looked(looked) => return self.looked(part, looked),
        }
        Ok(())
    }

    /// Whether the user wants this as it is: by its name, or its name and what its value begins with.
    fn is_kept(&self, part: &Part<'_>) -> bool {
        let Some(name) = part.name.and_then(OsStr::to_str) else {
            return false;
        };
        self.keep.iter().any(|keep| {
            let keep = keep.trim_start_matches('-');
            match keep.split_once(' ') {
                None => keep == name,
                Some((option, kind)) => option == name && kind_of(part).as_deref() == Some(kind),
            }
        })
    }

    /// Replaces an option's value, leaving its name as it was written.
    fn replace(&mut self, part: &Part<'_>, value: String, reason: &'static str) {
        let mut now: Vec<OsString> = part.words.iter().take(1).cloned().collect();
        now.push(value.into());
        self.change(part, now, reason);
    }

    fn change(&mut self, part: &Part<'_>, now: Vec<OsString>, reason: &'static str) {
        self.options.extend_from_slice(&now);
        if now != part.words {
            self.changes.push(Change {
                was: part.words.to_vec(),
                now,
                reason,
            });
        }
    }

    fn keep_it(&mut self, part: &Part<'_>) {
        self.options.extend_from_slice(part.words);
    }

    fn disk(&mut self, part: &Part<'_>, path: Option<&OsStr>, place: &str) -> Result<(), Error> {
        let Some(path) = path.and_then(OsStr::to_str) else {
            return Err(refusal(part, NOT_TEXT, None));
        };
        let stand_in = disks::image(path, place, self.around);
        self.change(
            part,
            vec!["-drive".into(), stand_in.value.into()],
            stand_in.reason,
        );
        Ok(())
    }

    fn looked(&mut self, part: &Part<'_>, looked: Looked) -> Result<(), Error> {
        let Some(text) = part.value().and_then(OsStr::to_str) else {
            return Err(refusal(part, NOT_TEXT, None));
        };
        let Some(values) = Values::read(text, first_key(looked)) else {
            return Err(refusal(part, "it begins like JSON and is none", None));
        };
        match looked {
            Looked::Blockdev => {
                let stand_in = self.nodes.blockdev(&values, self.around);
                self.replace(part, stand_in.value, stand_in.reason);
            }
            Looked::Drive => match self.nodes.drive(&values, self.around) {
                Some(stand_in) => self.replace(part, stand_in.value, stand_in.reason),
                None => self.keep_it(part),
            },
            Looked::Netdev => {
                let outcome = self.network.netdev(&values);
                self.network_option(part, outcome);
            }
            Looked::Nic => {
                let outcome = self.network.nic(&values);
                self.network_option(part, outcome);
            }
            Looked::Net => {
                let outcome = self.network.net(&values);
                self.network_option(part, outcome);
            }
            Looked::Device => self.device(part, &values),
            Looked::Object => return self.object(part, &values),
            Looked::Chardev => {
                let value = values.only_as_keys("null", &["id", "mux"], &[]);
                self.replace(part, value, CONSOLE);
            }
            Looked::Port => match text {
                "none" | "null" => self.keep_it(part),
                // The chardev is a stand-in itself.
                _ if text.starts_with("chardev:") => self.keep_it(part),
                _ => self.replace(part, "null".to_owned(), CONSOLE),
            },
            Looked::Display => self.replace(part, "none".to_owned(), SEEN),
            Looked::Audiodev => {
                self.replace(part, values.only_as_keys("none", &["id"], &[]), SOUND);
            }
            Looked::Audio => {
                self.replace(
                    part,
                    values.only_as_keys("none", &["model", "id"], &[]),
                    SOUND,
                );
            }
            Looked::Soundhw => {
                // QEMU 5.2: such a device takes the first backend there is.
                self.wants_silence = true;
                self.keep_it(part);
            }
            Looked::Fsdev => {
                self.replace(part, values.only_as_keys("synth", &["id"], &[]), SHARED);
            }
            Looked::Virtfs => {
                let value = values.only_as_keys("synth", &["id", "mount_tag"], &[]);
                self.replace(part, value, SHARED);
            }
            Looked::Machine if values.has_any(&["dumpdtb"]) => {
                return Err(refusal(
                    part,
                    "with `dumpdtb` QEMU writes a file and ends",
                    None,
                ));
            }
            Looked::Icount if values.has_any(&["rr", "rrfile", "rrsnapshot"]) => {
                let reason = "a recording of the guest's run would be written or read";
                return Err(refusal(part, reason, Some("icount".to_owned())));
            }
            Looked::Machine | Looked::Icount => self.keep_it(part),
            Looked::Global => {
                let property = values
                    .get("property")
                    .or_else(|| text.split('=').next()?.rsplit('.').next());
                if property.is_some_and(|name| devices::STRIPPED.contains(&name)) {
                    self.change(
                        part,
                        Vec::new(),
                        "no file is written and no connection opened for a device",
                    );
                } else {
                    self.keep_it(part);
                }
            }
            Looked::Usbdevice => match text {
                "mouse" | "tablet" | "keyboard" | "wacom-tablet" | "ccid" => self.keep_it(part),
                _ => {
                    let reason = "what it reaches on this host is not known here";
                    return Err(refusal(part, reason, Some("usbdevice".to_owned())));
                }
            },
            Looked::Disk(place) => return self.disk(part, part.value(), place),
        }
        Ok(())
    }

    fn network_option(&mut self, part: &Part<'_>, outcome: network::Outcome) {
        match outcome {
            network::Outcome::Keep => self.keep_it(part),
            network::Outcome::Instead(value, reason) => self.replace(part, value, reason),
        }
    }

    fn device(&mut self, part: &Part<'_>, values: &Values) {
        let backend = values.get("netdev").and_then(|id| {
            let found = self.backends.iter().find(|(name, _)| name == id);
            found.map(|(_, kind)| kind.as_str())
        });
        let outcome = if network::is_beyond_a_tap(values, backend) {
            devices::absent_nic(values)
        } else {
            devices::device(values)
        };
        let devices::Outcome::Instead(now, reason, unjudged) = outcome else {
            return self.keep_it(part);
        };
        self.unjudged.extend(unjudged);
        match now {
            Some(value) => {
                self.wants_silence |= value.contains(devices::SILENCE);
                self.replace(part, value, reason);
            }
            None => self.change(part, Vec::new(), reason),
        }
    }

    fn object(&mut self, part: &Part<'_>, values: &Values) -> Result<(), Error> {
        match objects::object(values, self.around) {
            objects::Outcome::Keep => self.keep_it(part),
            objects::Outcome::Instead(value, reason) => self.replace(part, value, reason),
            objects::Outcome::Drop(reason, unjudged) => {
                self.unjudged.extend(unjudged);
                self.change(part, Vec::new(), reason);
            }
            objects::Outcome::Refuse(reason) => {
                let kind = values.get("qom-type").unwrap_or_default();
                return Err(refusal(part, reason, Some(format!("object {kind}"))));
            }
        }
        Ok(())
    }

    /// Adds what must be there in any case.
    pub(super) fn finish(&mut self, program: &OsString) {
        // A word that looks like an option may be a value: `-append -S`.
        let mut all = vec![program.clone()];
        all.extend_from_slice(&self.options);
        let parts = options::parts(&all);
        let has = |name: &str| {
            parts
                .options
                .iter()
                .any(|part| part.name == Some(OsStr::new(name)))
        };
        let wanted = [
            (has("display"), &["-display", "none"][..], SEEN),
            (
                has("no-user-config") || has("nouserconfig"),
                &["-no-user-config"],
                "a configuration file of this host could name more",
            ),
            (has("S"), &["-S"], "the guest must not run"),
        ];
        if self.wants_silence {
            let backend = format!("none,id={}", devices::SILENCE);
            self.add(&["-audiodev", &backend], SOUND);
        }
        for (is_there, words, reason) in wanted {
            if !is_there {
                self.add(words, reason);
            }
        }
    }

    fn add(&mut self, words: &[&str], reason: &'static str) {
        let now: Vec<OsString> = words.iter().map(OsString::from).collect();
        self.options.extend_from_slice(&now);
        self.changes.push(Change {
            was: Vec::new(),
            now,
            reason,
        });
    }
}

/// What a value begins with: a driver, a type.
fn kind_of(part: &Part<'_>) -> Option<String> {
    let first = match part.known?.treatment {
        Treatment::Looked(looked) => first_key(looked),
        _ => "first",
    };
    let values = Values::read(part.value()?.to_str()?, first)?;
    values.get(first).map(str::to_owned)
}

const NOT_TEXT: &str = "its value is no UTF-8, or missing";

fn refusal(part: &Part<'_>, reason: &'static str, keep: Option<String>) -> Error {
    let hint = keep.as_ref().map(|keep| {
        let quoted = if keep.contains(' ') {
            format!("'{keep}'")
        } else {
            keep.clone()
        };
        format!("leave it out, or keep it as it is, at your own risk, with `--keep {quoted}`")
    });
    Error::new(ErrorKind::CannotIsolate {
        words: part.words.to_vec(),
        reason,
        keep,
    })
    .with_hint(hint)
}

/// The key that the first part of an option's value may leave out.
fn first_key(looked: Looked) -> &'static str {
    match looked {
        Looked::Blockdev | Looked::Device | Looked::Audiodev | Looked::Audio => "driver",
        Looked::Netdev | Looked::Nic | Looked::Net | Looked::Machine => "type",
        Looked::Object => "qom-type",
        Looked::Chardev => "backend",
        Looked::Fsdev | Looked::Virtfs => "fsdriver",
        Looked::Icount => "shift",
        Looked::Drive | Looked::Display | Looked::Global | Looked::Port | Looked::Soundhw => "",
        Looked::Usbdevice | Looked::Disk(_) => "",
    }
}
