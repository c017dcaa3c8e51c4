//! A command line while it is gone through: each option is given to the module that knows it, and what comes of it is kept.
//!
//! What an option's treatment is lives in [`super::options`]. What is so short that it needs no module is here: character
//! devices, displays, sound, shared folders.

use std::ffi::{OsStr, OsString};

use super::disks::{self, BlockNodes};
use super::host_queries::HostQueries;
use super::isolated_command::{OptionChange, UnverifiedPart};
use super::network::{self, Network};
use super::options::{self, Argument, OptionKind, OptionPolicy};
use super::values::Values;
use super::{devices, objects};
use crate::error::{Error, ErrorKind};

const CONSOLE_REASON: &str = "nothing may be connected to, listened on or written to";
const DISPLAY_REASON: &str = "no display may be opened";
const AUDIO_REASON: &str = "no sound may be played or recorded";
const SHARED_FOLDER_REASON: &str = "no folder of this host is shared: an empty one stands in";

/// A command line while it is gone through.
pub(super) struct Rewriter<'a> {
    allowed_options: &'a [String],
    host: &'a dyn HostQueries,
    pub(super) options: Vec<OsString>,
    pub(super) changes: Vec<OptionChange>,
    pub(super) unverified: Vec<UnverifiedPart>,
    nodes: BlockNodes,
    pub(super) network: Network<'a>,
    /// Network backends: name and kind.
    backends: Vec<(String, String)>,
    needs_null_audiodev: bool,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(keep: &'a [String], around: &'a dyn HostQueries) -> Self {
        Self {
            allowed_options: keep,
            host: around,
            options: Vec::new(),
            changes: Vec::new(),
            unverified: Vec::new(),
            nodes: BlockNodes::default(),
            network: Network::new(around),
            backends: Vec::new(),
            needs_null_audiodev: false,
        }
    }

    /// Notes what other options refer to.
    pub(super) fn collect_references(&mut self, part: &Argument<'_>) {
        let Some(known) = part.option else { return };
        let OptionPolicy::ByValue(looked) = known.policy else {
            return;
        };
        let first = implied_key(looked);
        let text = part.value().and_then(OsStr::to_str);
        let Some(values) = text.and_then(|text| Values::parse(text, first)) else {
            return;
        };
        match looked {
            OptionKind::Blockdev => self.nodes.add(values),
            OptionKind::Device => self.network.add_device(&values),
            OptionKind::Netdev => {
                let pair = values.get("id").zip(values.get("type"));
                self.backends
                    .extend(pair.map(|(id, kind)| (id.to_owned(), kind.to_owned())));
            }
            OptionKind::Machine => {
                let flash = ["pflash0", "pflash1"]
                    .into_iter()
                    .filter_map(|key| values.get(key));
                flash.for_each(|node| self.nodes.mark_flash(node));
            }
            _ => {}
        }
    }

    pub(super) fn rewrite_argument(&mut self, part: &Argument<'_>) -> Result<(), Error> {
        if self.is_allowed(part) {
            self.options.extend_from_slice(part.words);
            return Ok(());
        }
        let Some(name) = part.name else {
            return self.replace_disk(
                part,
                part.words.first().map(OsString::as_os_str),
                "index=0,media=disk",
            );
        };
        let Some(known) = part.option else {
            let reason = "this option is not known here, nor what it does";
            return Err(isolation_error(
                part,
                reason,
                Some(name.to_string_lossy().into_owned()),
            ));
        };
        if known.takes_value && part.value().is_none() {
            return Err(isolation_error(part, "its value is missing", None));
        }
        match known.policy {
            OptionPolicy::Keep => self.options.extend_from_slice(part.words),
            OptionPolicy::Drop(reason) => self.change(part, Vec::new(), reason),
            OptionPolicy::Replace(words, reason) => {
                self.change(part, words.iter().map(OsString::from).collect(), reason);
            }
            OptionPolicy::Refuse(reason) => {
                return Err(isolation_error(part, reason, Some(known.name.to_owned())));
            }
            OptionPolicy::ByValue(OptionKind::Disk(place)) => {
                return self.replace_disk(part, part.value(), place);
            }
            OptionPolicy::ByValue(looked) => return self.rewrite_by_value(part, looked),
        }
        Ok(())
    }

    /// Whether the user wants this as it is: by its name, or its name and what its value begins with.
    fn is_allowed(&self, part: &Argument<'_>) -> bool {
        let Some(name) = part.name.and_then(OsStr::to_str) else {
            return false;
        };
        self.allowed_options.iter().any(|keep| {
            let keep = keep.trim_start_matches('-');
            match keep.split_once(' ') {
                None => keep == name,
                Some((option, kind)) => option == name && value_kind(part).as_deref() == Some(kind),
            }
        })
    }

    /// Replaces an option's value, leaving its name as it was written.
    fn replace(&mut self, part: &Argument<'_>, value: String, reason: &'static str) {
        let mut now: Vec<OsString> = part.words.iter().take(1).cloned().collect();
        now.push(value.into());
        self.change(part, now, reason);
    }

    fn change(&mut self, part: &Argument<'_>, now: Vec<OsString>, reason: &'static str) {
        self.options.extend_from_slice(&now);
        if now != part.words {
            self.changes.push(OptionChange {
                before: part.words.to_vec(),
                after: now,
                reason,
            });
        }
    }

    fn pass_through(&mut self, part: &Argument<'_>) {
        self.options.extend_from_slice(part.words);
    }

    fn replace_disk(
        &mut self,
        part: &Argument<'_>,
        path: Option<&OsStr>,
        place: &str,
    ) -> Result<(), Error> {
        let Some(path) = path.and_then(OsStr::to_str) else {
            return Err(isolation_error(part, INVALID_VALUE_REASON, None));
        };
        let stand_in = disks::replace_image(path, place, self.host);
        self.change(
            part,
            vec!["-drive".into(), stand_in.value.into()],
            stand_in.reason,
        );
        Ok(())
    }

    fn rewrite_by_value(&mut self, part: &Argument<'_>, looked: OptionKind) -> Result<(), Error> {
        let Some(text) = part.value().and_then(OsStr::to_str) else {
            return Err(isolation_error(part, INVALID_VALUE_REASON, None));
        };
        let Some(values) = Values::parse(text, implied_key(looked)) else {
            return Err(isolation_error(
                part,
                "it begins like JSON and is none",
                None,
            ));
        };
        match looked {
            OptionKind::Blockdev => {
                let stand_in = self.nodes.replace_blockdev(&values, self.host);
                self.replace(part, stand_in.value, stand_in.reason);
            }
            OptionKind::Drive => match self.nodes.replace_drive(&values, self.host) {
                Some(stand_in) => self.replace(part, stand_in.value, stand_in.reason),
                None => self.pass_through(part),
            },
            OptionKind::Netdev => {
                let outcome = self.network.rewrite_netdev(&values);
                self.apply_network_rewrite(part, outcome);
            }
            OptionKind::Nic => {
                let outcome = self.network.rewrite_nic(&values);
                self.apply_network_rewrite(part, outcome);
            }
            OptionKind::Net => {
                let outcome = self.network.rewrite_net(&values);
                self.apply_network_rewrite(part, outcome);
            }
            OptionKind::Device => self.rewrite_device(part, &values),
            OptionKind::Object => return self.rewrite_object(part, &values),
            OptionKind::Chardev => {
                let value = values.format_only_as_keys("null", &["id", "mux"], &[]);
                self.replace(part, value, CONSOLE_REASON);
            }
            OptionKind::Port => match text {
                "none" | "null" => self.pass_through(part),
                // The chardev is a stand-in itself.
                _ if text.starts_with("chardev:") => self.pass_through(part),
                _ => self.replace(part, "null".to_owned(), CONSOLE_REASON),
            },
            OptionKind::Display => self.replace(part, "none".to_owned(), DISPLAY_REASON),
            OptionKind::Audiodev => {
                self.replace(
                    part,
                    values.format_only_as_keys("none", &["id"], &[]),
                    AUDIO_REASON,
                );
            }
            OptionKind::Audio => {
                self.replace(
                    part,
                    values.format_only_as_keys("none", &["model", "id"], &[]),
                    AUDIO_REASON,
                );
            }
            OptionKind::Soundhw => {
                // QEMU 5.2: such a device takes the first backend there is.
                self.needs_null_audiodev = true;
                self.pass_through(part);
            }
            OptionKind::Fsdev => {
                self.replace(
                    part,
                    values.format_only_as_keys("synth", &["id"], &[]),
                    SHARED_FOLDER_REASON,
                );
            }
            OptionKind::Virtfs => {
                let value = values.format_only_as_keys("synth", &["id", "mount_tag"], &[]);
                self.replace(part, value, SHARED_FOLDER_REASON);
            }
            OptionKind::Machine if values.has_any(&["dumpdtb"]) => {
                return Err(isolation_error(
                    part,
                    "with `dumpdtb` QEMU writes a file and ends",
                    None,
                ));
            }
            OptionKind::Icount if values.has_any(&["rr", "rrfile", "rrsnapshot"]) => {
                let reason = "a recording of the guest's run would be written or read";
                return Err(isolation_error(part, reason, Some("icount".to_owned())));
            }
            OptionKind::Machine | OptionKind::Icount => self.pass_through(part),
            OptionKind::Global => {
                let property = values
                    .get("property")
                    .or_else(|| text.split('=').next()?.rsplit('.').next());
                if property.is_some_and(|name| devices::HOST_ACCESS_PROPERTIES.contains(&name)) {
                    self.change(
                        part,
                        Vec::new(),
                        "no file is written and no connection opened for a device",
                    );
                } else {
                    self.pass_through(part);
                }
            }
            OptionKind::Usbdevice => match text {
                "mouse" | "tablet" | "keyboard" | "wacom-tablet" | "ccid" => {
                    self.pass_through(part)
                }
                _ => {
                    let reason = "what it reaches on this host is not known here";
                    return Err(isolation_error(part, reason, Some("usbdevice".to_owned())));
                }
            },
            OptionKind::Disk(place) => return self.replace_disk(part, part.value(), place),
        }
        Ok(())
    }

    fn apply_network_rewrite(&mut self, part: &Argument<'_>, outcome: network::NetworkRewrite) {
        match outcome {
            network::NetworkRewrite::Keep => self.pass_through(part),
            network::NetworkRewrite::Replace(value, reason) => self.replace(part, value, reason),
        }
    }

    fn rewrite_device(&mut self, part: &Argument<'_>, values: &Values) {
        let backend = values.get("netdev").and_then(|id| {
            let found = self.backends.iter().find(|(name, _)| name == id);
            found.map(|(_, kind)| kind.as_str())
        });
        let outcome = if network::has_oversized_tx_queue(values, backend) {
            devices::replace_nic(values)
        } else {
            devices::rewrite_device(values)
        };
        let devices::DeviceRewrite::Replace(now, reason, unjudged) = outcome else {
            return self.pass_through(part);
        };
        self.unverified.extend(unjudged);
        match now {
            Some(value) => {
                self.needs_null_audiodev |= value.contains(devices::NULL_AUDIODEV_ID);
                self.replace(part, value, reason);
            }
            None => self.change(part, Vec::new(), reason),
        }
    }

    fn rewrite_object(&mut self, part: &Argument<'_>, values: &Values) -> Result<(), Error> {
        match objects::rewrite_object(values, self.host) {
            objects::ObjectRewrite::Keep => self.pass_through(part),
            objects::ObjectRewrite::Replace(value, reason) => self.replace(part, value, reason),
            objects::ObjectRewrite::Drop(reason, unjudged) => {
                self.unverified.extend(unjudged);
                self.change(part, Vec::new(), reason);
            }
            objects::ObjectRewrite::Refuse(reason) => {
                let kind = values.get("qom-type").unwrap_or_default();
                return Err(isolation_error(
                    part,
                    reason,
                    Some(format!("object {kind}")),
                ));
            }
        }
        Ok(())
    }

    /// Adds what must be there in any case.
    pub(super) fn finish(&mut self, program: &OsString) {
        // A word that looks like an option may be a value: `-append -S`.
        let mut all = vec![program.clone()];
        all.extend_from_slice(&self.options);
        let parts = options::parse_command_line(&all);
        let has = |name: &str| {
            parts
                .arguments
                .iter()
                .any(|part| part.name == Some(OsStr::new(name)))
        };
        let wanted = [
            (has("display"), &["-display", "none"][..], DISPLAY_REASON),
            (
                has("no-user-config") || has("nouserconfig"),
                &["-no-user-config"],
                "a configuration file of this host could name more",
            ),
            (has("S"), &["-S"], "the guest must not run"),
        ];
        if self.needs_null_audiodev {
            let backend = format!("none,id={}", devices::NULL_AUDIODEV_ID);
            self.add(&["-audiodev", &backend], AUDIO_REASON);
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
        self.changes.push(OptionChange {
            before: Vec::new(),
            after: now,
            reason,
        });
    }
}

/// What a value begins with: a driver, a type.
fn value_kind(part: &Argument<'_>) -> Option<String> {
    let first = match part.option?.policy {
        OptionPolicy::ByValue(looked) => implied_key(looked),
        _ => "first",
    };
    let values = Values::parse(part.value()?.to_str()?, first)?;
    values.get(first).map(str::to_owned)
}

const INVALID_VALUE_REASON: &str = "its value is no UTF-8, or missing";

fn isolation_error(part: &Argument<'_>, reason: &'static str, keep: Option<String>) -> Error {
    let hint = keep.as_ref().map(|keep| {
        let quoted = if keep.contains(' ') {
            format!("'{keep}'")
        } else {
            keep.clone()
        };
        format!(
            "leave it out, or keep it as it is, at your own risk, with `--allow-option {quoted}`"
        )
    });
    Error::new(ErrorKind::CannotIsolate {
        words: part.words.to_vec(),
        reason,
        allow_option: keep,
    })
    .with_hint(hint)
}

/// The key that the first part of an option's value may leave out.
fn implied_key(looked: OptionKind) -> &'static str {
    match looked {
        OptionKind::Blockdev | OptionKind::Device | OptionKind::Audiodev | OptionKind::Audio => {
            "driver"
        }
        OptionKind::Netdev | OptionKind::Nic | OptionKind::Net | OptionKind::Machine => "type",
        OptionKind::Object => "qom-type",
        OptionKind::Chardev => "backend",
        OptionKind::Fsdev | OptionKind::Virtfs => "fsdriver",
        OptionKind::Icount => "shift",
        OptionKind::Drive
        | OptionKind::Display
        | OptionKind::Global
        | OptionKind::Port
        | OptionKind::Soundhw => "",
        OptionKind::Usbdevice | OptionKind::Disk(_) => "",
    }
}
