//! [`Rewriter`]: passes each option to the module that rewrites it, and collects the results.
//!
//! [`super::options`] has the policy for each option. This module also has the short rewrites:
//! character devices, displays, sound, shared folders.

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
const SHARED_FOLDER_REASON: &str = "no folder of this host is shared: an empty one replaces it";

/// State of rewriting a command line.
pub(super) struct Rewriter<'a> {
    allowed_options: &'a [String],
    host: &'a dyn HostQueries,
    pub(super) options: Vec<OsString>,
    pub(super) changes: Vec<OptionChange>,
    pub(super) unverified: Vec<UnverifiedPart>,
    nodes: BlockNodes,
    pub(super) network: Network<'a>,
    /// Id and type of each network backend.
    backends: Vec<(String, String)>,
    needs_null_audiodev: bool,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(allowed_options: &'a [String], host: &'a dyn HostQueries) -> Self {
        Self {
            allowed_options,
            host,
            options: Vec::new(),
            changes: Vec::new(),
            unverified: Vec::new(),
            nodes: BlockNodes::default(),
            network: Network::new(host),
            backends: Vec::new(),
            needs_null_audiodev: false,
        }
    }

    /// Collects the parts of an argument to which other options refer.
    pub(super) fn collect_references(&mut self, argument: &Argument<'_>) {
        let Some(known) = argument.option else { return };
        let OptionPolicy::ByValue(kind) = known.policy else {
            return;
        };
        let first = implied_key(kind);
        let text = argument.value().and_then(OsStr::to_str);
        let Some(values) = text.and_then(|text| Values::parse(text, first)) else {
            return;
        };
        match kind {
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

    pub(super) fn rewrite_argument(&mut self, argument: &Argument<'_>) -> Result<(), Error> {
        if self.is_allowed(argument) {
            self.options.extend_from_slice(argument.words);
            return Ok(());
        }
        let Some(name) = argument.name else {
            return self.replace_disk(
                argument,
                argument.words.first().map(OsString::as_os_str),
                "index=0,media=disk",
            );
        };
        let Some(known) = argument.option else {
            let reason = "the option is unknown to this cpreg";
            return Err(isolation_error(
                argument,
                reason,
                Some(name.to_string_lossy().into_owned()),
            ));
        };
        if known.takes_value && argument.value().is_none() {
            return Err(isolation_error(argument, "its value is missing", None));
        }
        match known.policy {
            OptionPolicy::Keep => self.options.extend_from_slice(argument.words),
            OptionPolicy::Drop(reason) => self.change(argument, Vec::new(), reason),
            OptionPolicy::Replace(words, reason) => {
                self.change(argument, words.iter().map(OsString::from).collect(), reason);
            }
            OptionPolicy::Refuse(reason) => {
                return Err(isolation_error(
                    argument,
                    reason,
                    Some(known.name.to_owned()),
                ));
            }
            OptionPolicy::ByValue(OptionKind::Disk(place)) => {
                return self.replace_disk(argument, argument.value(), place);
            }
            OptionPolicy::ByValue(kind) => return self.rewrite_by_value(argument, kind),
        }
        Ok(())
    }

    /// Returns `true` if the user allows this option, either by its name or by its name and first
    /// value.
    fn is_allowed(&self, argument: &Argument<'_>) -> bool {
        let Some(name) = argument.name.and_then(OsStr::to_str) else {
            return false;
        };
        self.allowed_options.iter().any(|allowed| {
            let allowed = allowed.trim_start_matches('-');
            match allowed.split_once(' ') {
                None => allowed == name,
                Some((option, kind)) => {
                    option == name && value_kind(argument).as_deref() == Some(kind)
                }
            }
        })
    }

    /// Replaces the value of an option, and keeps its name as written.
    fn replace(&mut self, argument: &Argument<'_>, value: String, reason: &'static str) {
        let mut words: Vec<OsString> = argument.words.iter().take(1).cloned().collect();
        words.push(value.into());
        self.change(argument, words, reason);
    }

    fn change(&mut self, argument: &Argument<'_>, words: Vec<OsString>, reason: &'static str) {
        self.options.extend_from_slice(&words);
        if words != argument.words {
            self.changes.push(OptionChange {
                before: argument.words.to_vec(),
                after: words,
                reason,
            });
        }
    }

    fn pass_through(&mut self, argument: &Argument<'_>) {
        self.options.extend_from_slice(argument.words);
    }

    fn replace_disk(
        &mut self,
        argument: &Argument<'_>,
        path: Option<&OsStr>,
        place: &str,
    ) -> Result<(), Error> {
        let Some(path) = path.and_then(OsStr::to_str) else {
            return Err(isolation_error(argument, INVALID_VALUE_REASON, None));
        };
        let stand_in = disks::replace_image(path, place, self.host);
        self.change(
            argument,
            vec!["-drive".into(), stand_in.value.into()],
            stand_in.reason,
        );
        Ok(())
    }

    fn rewrite_by_value(&mut self, argument: &Argument<'_>, kind: OptionKind) -> Result<(), Error> {
        let Some(text) = argument.value().and_then(OsStr::to_str) else {
            return Err(isolation_error(argument, INVALID_VALUE_REASON, None));
        };
        let Some(values) = Values::parse(text, implied_key(kind)) else {
            return Err(isolation_error(
                argument,
                "its value begins like JSON but is not valid JSON",
                None,
            ));
        };
        match kind {
            OptionKind::Blockdev => {
                let stand_in = self.nodes.replace_blockdev(&values, self.host);
                self.replace(argument, stand_in.value, stand_in.reason);
            }
            OptionKind::Drive => match self.nodes.replace_drive(&values, self.host) {
                Some(stand_in) => self.replace(argument, stand_in.value, stand_in.reason),
                None => self.pass_through(argument),
            },
            OptionKind::Netdev => {
                let rewrite = self.network.rewrite_netdev(&values);
                self.apply_network_rewrite(argument, rewrite);
            }
            OptionKind::Nic => {
                let rewrite = self.network.rewrite_nic(&values);
                self.apply_network_rewrite(argument, rewrite);
            }
            OptionKind::Net => {
                let rewrite = self.network.rewrite_net(&values);
                self.apply_network_rewrite(argument, rewrite);
            }
            OptionKind::Device => self.rewrite_device(argument, &values),
            OptionKind::Object => return self.rewrite_object(argument, &values),
            OptionKind::Chardev => {
                let value = values.format_only_as_keys("null", &["id", "mux"], &[]);
                self.replace(argument, value, CONSOLE_REASON);
            }
            OptionKind::Port => match text {
                "none" | "null" => self.pass_through(argument),
                // The rewrite of `-chardev` replaces the chardev.
                _ if text.starts_with("chardev:") => self.pass_through(argument),
                _ => self.replace(argument, "null".to_owned(), CONSOLE_REASON),
            },
            OptionKind::Display => self.replace(argument, "none".to_owned(), DISPLAY_REASON),
            OptionKind::Audiodev => {
                let value = values.format_only_as_keys("none", &["id"], &[]);
                self.replace(argument, value, AUDIO_REASON);
            }
            OptionKind::Audio => {
                let value = values.format_only_as_keys("none", &["model", "id"], &[]);
                self.replace(argument, value, AUDIO_REASON);
            }
            OptionKind::Soundhw => {
                // In QEMU 5.2, such a device uses the first audio backend.
                self.needs_null_audiodev = true;
                self.pass_through(argument);
            }
            OptionKind::Fsdev => {
                let value = values.format_only_as_keys("synth", &["id"], &[]);
                self.replace(argument, value, SHARED_FOLDER_REASON);
            }
            OptionKind::Virtfs => {
                let value = values.format_only_as_keys("synth", &["id", "mount_tag"], &[]);
                self.replace(argument, value, SHARED_FOLDER_REASON);
            }
            OptionKind::Machine if values.has_any(&["dumpdtb"]) => {
                return Err(isolation_error(
                    argument,
                    "QEMU would write the device tree to a file and exit",
                    None,
                ));
            }
            OptionKind::Icount if values.has_any(&["rr", "rrfile", "rrsnapshot"]) => {
                let reason = "QEMU would read or write a recording of the guest";
                return Err(isolation_error(argument, reason, Some("icount".to_owned())));
            }
            OptionKind::Machine | OptionKind::Icount => self.pass_through(argument),
            OptionKind::Global => self.rewrite_global(argument, text, &values),
            OptionKind::Usbdevice => match text {
                "mouse" | "tablet" | "keyboard" | "wacom-tablet" | "ccid" => {
                    self.pass_through(argument);
                }
                _ => {
                    let reason = "cpreg does not know what it accesses on this host";
                    return Err(isolation_error(
                        argument,
                        reason,
                        Some("usbdevice".to_owned()),
                    ));
                }
            },
            OptionKind::Disk(place) => return self.replace_disk(argument, argument.value(), place),
        }
        Ok(())
    }

    fn rewrite_global(&mut self, argument: &Argument<'_>, text: &str, values: &Values) {
        let property = values
            .get("property")
            .or_else(|| text.split('=').next()?.rsplit('.').next());
        if property.is_some_and(|name| devices::HOST_ACCESS_PROPERTIES.contains(&name)) {
            let reason = "no device may write a file or open a connection";
            self.change(argument, Vec::new(), reason);
        } else {
            self.pass_through(argument);
        }
    }

    fn apply_network_rewrite(&mut self, argument: &Argument<'_>, rewrite: network::NetworkRewrite) {
        match rewrite {
            network::NetworkRewrite::Keep => self.pass_through(argument),
            network::NetworkRewrite::Replace(value, reason) => {
                self.replace(argument, value, reason);
            }
        }
    }

    fn rewrite_device(&mut self, argument: &Argument<'_>, values: &Values) {
        let backend = values.get("netdev").and_then(|id| {
            let backend = self.backends.iter().find(|(name, _)| name == id);
            backend.map(|(_, kind)| kind.as_str())
        });
        let rewrite = if network::has_oversized_tx_queue(values, backend) {
            devices::replace_nic(values)
        } else {
            devices::rewrite_device(values)
        };
        let devices::DeviceRewrite::Replace(value, reason, unverified) = rewrite else {
            return self.pass_through(argument);
        };
        self.unverified.extend(unverified);
        match value {
            Some(value) => {
                self.needs_null_audiodev |= value.contains(devices::NULL_AUDIODEV_ID);
                self.replace(argument, value, reason);
            }
            None => self.change(argument, Vec::new(), reason),
        }
    }

    fn rewrite_object(&mut self, argument: &Argument<'_>, values: &Values) -> Result<(), Error> {
        match objects::rewrite_object(values, self.host) {
            objects::ObjectRewrite::Keep => self.pass_through(argument),
            objects::ObjectRewrite::Replace(value, reason) => self.replace(argument, value, reason),
            objects::ObjectRewrite::Drop(reason, unverified) => {
                self.unverified.extend(unverified);
                self.change(argument, Vec::new(), reason);
            }
            objects::ObjectRewrite::Refuse(reason) => {
                let kind = values.get("qom-type").unwrap_or_default();
                return Err(isolation_error(
                    argument,
                    reason,
                    Some(format!("object {kind}")),
                ));
            }
        }
        Ok(())
    }

    /// Adds the options that an isolated QEMU needs.
    pub(super) fn finish(&mut self, program: &OsString) {
        // Parse the result again, because a word that looks like an option may be a value
        // (`-append -S`).
        let mut command = vec![program.clone()];
        command.extend_from_slice(&self.options);
        let parts = options::parse_command_line(&command);
        let has = |name: &str| {
            parts
                .arguments
                .iter()
                .any(|argument| argument.name == Some(OsStr::new(name)))
        };
        let required = [
            (has("display"), &["-display", "none"][..], DISPLAY_REASON),
            (
                has("no-user-config") || has("nouserconfig"),
                &["-no-user-config"],
                "a configuration file of this host could add options",
            ),
            (has("S"), &["-S"], "the guest must not run"),
        ];
        if self.needs_null_audiodev {
            let backend = format!("none,id={}", devices::NULL_AUDIODEV_ID);
            self.add(&["-audiodev", &backend], AUDIO_REASON);
        }
        for (is_present, words, reason) in required {
            if !is_present {
                self.add(words, reason);
            }
        }
    }

    fn add(&mut self, words: &[&str], reason: &'static str) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        self.options.extend_from_slice(&words);
        self.changes.push(OptionChange {
            before: Vec::new(),
            after: words,
            reason,
        });
    }
}

/// Returns the first part of an option's value, which is a driver or a type.
fn value_kind(argument: &Argument<'_>) -> Option<String> {
    let first = match argument.option?.policy {
        OptionPolicy::ByValue(kind) => implied_key(kind),
        _ => "first",
    };
    let values = Values::parse(argument.value()?.to_str()?, first)?;
    values.get(first).map(str::to_owned)
}

const INVALID_VALUE_REASON: &str = "its value is missing or not UTF-8";

fn isolation_error(
    argument: &Argument<'_>,
    reason: &'static str,
    allow_option: Option<String>,
) -> Error {
    let hint = allow_option.as_ref().map(|option| {
        let quoted = if option.contains(' ') {
            format!("'{option}'")
        } else {
            option.clone()
        };
        format!(
            "leave it out, or keep it unchanged at your own risk with `--allow-option {quoted}`"
        )
    });
    Error::new(ErrorKind::CannotIsolate {
        words: argument.words.to_vec(),
        reason,
        allow_option,
    })
    .with_hint(hint)
}

/// Returns the key that the first part of an option's value may omit.
fn implied_key(kind: OptionKind) -> &'static str {
    match kind {
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
