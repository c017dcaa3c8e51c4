//! The files of each part of an installation.

use std::path::{Path, PathBuf};

use cpreg_report::command::quote;

use super::host_tools::HostTools;
use crate::arguments::{ConsentArgs, InstallPart};
use crate::failure::Failure;

/// Hook script of libvirt, below the root.
pub(super) const HOOK: &str = "etc/libvirt/hooks/qemu.d/50-cpreg";
/// Rules of nftables, below the root.
const RULES: &str = "etc/cpreg/relay.nft";
/// Units of systemd, below the root.
const SERVICE: &str = "etc/systemd/system/cpreg-relay.service";
const SOCKET: &str = "etc/systemd/system/cpreg-relay.socket";
/// Link that starts the socket at boot.
const SOCKET_LINK: &str = "etc/systemd/system/sockets.target.wants/cpreg-relay.socket";

/// Choices of the user.
#[derive(Clone, Debug)]
pub(super) struct Options<'a> {
    /// Absolute path of cpreg.
    pub(super) program: PathBuf,
    pub(super) to: Option<&'a Path>,
    pub(super) tls_creds: Option<&'a Path>,
    pub(super) allow_no_return_path: bool,
    /// Log file of the hook.
    pub(super) log: Option<&'a Path>,
    pub(super) consents: &'a ConsentArgs,
}

/// File or link of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstalledFile {
    pub(super) part: InstallPart,
    /// Path below the root.
    pub(super) path: &'static str,
    pub(super) content: Content,
}

/// Content of an [`InstalledFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Regular file.
    Text {
        text: String,
        /// Permissions.
        mode: u32,
    },
    /// Symbolic link to this path.
    Link(&'static str),
}

/// Returns the files of these parts.
pub(super) fn files(
    parts: &[InstallPart],
    options: &Options<'_>,
    tools: &HostTools,
) -> Result<Vec<InstalledFile>, Failure> {
    for (option, path) in [
        ("--to", options.to),
        ("--tls-creds", options.tls_creds),
        ("--log", options.log),
    ] {
        // The name of a recorded host looks like a relative path, and no such file exists.
        let is_host = option == "--to" && path.is_some_and(|path| !path.exists());
        if let Some(path) = path.filter(|path| !path.is_absolute() && !is_host) {
            return Err(relative_path(option, path));
        }
    }
    let mut files = Vec::new();
    for part in parts {
        match part {
            InstallPart::Hook => files.push(hook(options)?),
            InstallPart::Relay => files.extend(relay(options, tools)?),
        }
    }
    Ok(files)
}

fn hook(options: &Options<'_>) -> Result<InstalledFile, Failure> {
    let mut words = Vec::new();
    if let Some(to) = options.to {
        words.extend(["--to".to_owned(), text(to)?]);
    }
    if let Some(log) = options.log {
        words.extend(["--log".to_owned(), text(log)?]);
    }
    words.extend(consent_words(options.consents)?);
    let words = words.iter().map(|word| format!(" {}", quote(word)));
    Ok(InstalledFile {
        part: InstallPart::Hook,
        path: HOOK,
        content: Content::Text {
            text: include_str!("files/50-cpreg")
                .replace("@PROGRAM@", &quote(&text(&options.program)?))
                .replace("@OPTIONS@", &words.collect::<String>()),
            mode: 0o755,
        },
    })
}

fn relay(options: &Options<'_>, tools: &HostTools) -> Result<[InstalledFile; 4], Failure> {
    let mut words = Vec::new();
    if let Some(to) = options.to {
        words.extend(["--to".to_owned(), text(to)?]);
    }
    if let Some(folder) = options.tls_creds {
        words.extend(["--tls-creds".to_owned(), text(folder)?]);
    }
    if options.allow_no_return_path {
        words.push("--allow-no-return-path".to_owned());
    }
    words.extend(consent_words(options.consents)?);
    let words = words
        .iter()
        .map(|word| format!(" {}", quote_for_unit(word)));
    let groups = if tools.has_kvm_group {
        "SupplementaryGroups=kvm\n"
    } else {
        ""
    };
    let nft = tools.nft.as_deref().map_or(Ok(String::new()), text)?;
    let file = |path, text: String| InstalledFile {
        part: InstallPart::Relay,
        path,
        content: Content::Text { text, mode: 0o644 },
    };
    Ok([
        file(RULES, include_str!("files/relay.nft").to_owned()),
        file(
            SERVICE,
            include_str!("files/cpreg-relay.service")
                .replace("@PROGRAM@", &quote_for_unit(&text(&options.program)?))
                .replace("@OPTIONS@", &words.collect::<String>())
                .replace("@GROUPS@", groups),
        ),
        file(
            SOCKET,
            include_str!("files/cpreg-relay.socket").replace("@NFT@", &quote_for_unit(&nft)),
        ),
        InstalledFile {
            part: InstallPart::Relay,
            path: SOCKET_LINK,
            content: Content::Link("/etc/systemd/system/cpreg-relay.socket"),
        },
    ])
}

/// Returns the options that give these consents.
fn consent_words(consents: &ConsentArgs) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for (option, values) in [
        ("--ignore", &consents.ignore),
        ("--drop", &consents.drop),
        ("--set", &consents.set),
        ("--accept", &consents.accept),
    ] {
        for value in values {
            words.extend([option.to_owned(), value.clone()]);
        }
    }
    for file in &consents.tolerances.files {
        if !file.is_absolute() {
            return Err(relative_path("--tolerances", file));
        }
        words.extend(["--tolerances".to_owned(), text(file)?]);
    }
    if consents.tolerances.no_default_tolerances {
        words.push("--no-default-tolerances".to_owned());
    }
    if let Some(word) = words.iter().find(|word| word.contains(char::is_control)) {
        return Err(Failure::new(format!(
            "{word:?} has a control character, which a unit or script cannot hold"
        )));
    }
    Ok(words)
}

/// Returns the error for a path that depends on the current folder.
fn relative_path(option: &str, path: &Path) -> Failure {
    Failure::new(format!(
        "{option} {}: the path is not absolute, which a service needs",
        path.display()
    ))
    .with_path(path)
}

/// Returns a path as text for a script or unit.
fn text(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let text = text.map(str::to_owned);
    text.ok_or_else(|| {
        Failure::new(format!(
            "{}: a unit or script cannot hold this path",
            path.display()
        ))
    })
}

/// Quotes a word for a command in a systemd unit.
fn quote_for_unit(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('%', "%%")
        .replace('$', "$$")
        .replace('"', "\\\"");
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+[]$".contains(letter);
    if !escaped.is_empty() && escaped.chars().all(is_plain) {
        return escaped;
    }
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_units() {
        for (word, quoted) in [
            ("/usr/bin/cpreg", "/usr/bin/cpreg"),
            ("MIDR_EL1=1/0xf", "MIDR_EL1=1/0xf"),
            ("/my files/%i", "\"/my files/%%i\""),
            ("a$b", "a$$b"),
            ("say \"a\\b\"", r#""say \"a\\b\"""#),
            ("", "\"\""),
        ] {
            assert_eq!(quote_for_unit(word), quoted);
        }
    }

    #[test]
    fn consents_become_words() {
        let mut consents = ConsentArgs {
            accept: vec!["PSCI_VERSION".to_owned()],
            set: vec!["MIDR_EL1.Revision=1".to_owned()],
            ..ConsentArgs::default()
        };
        consents.tolerances.files.push("/etc/my.toml".into());
        let words = consent_words(&consents).unwrap_or_default();
        assert_eq!(
            words.join(" "),
            "--set MIDR_EL1.Revision=1 --accept PSCI_VERSION --tolerances /etc/my.toml"
        );
        consents.tolerances.files[0] = "my.toml".into();
        assert!(consent_words(&consents).is_err());
        consents.tolerances.files.clear();
        consents.accept.push("A\nExecStartPre=b".to_owned());
        assert!(consent_words(&consents).is_err());
    }

    #[test]
    fn the_service_has_the_options() {
        let consents = ConsentArgs::default();
        let mut tools = HostTools::default();
        tools.nft = Some("/usr/sbin/nft".into());
        let service = |tls_creds: Option<&Path>| {
            let options = Options {
                program: "/usr/bin/cpreg".into(),
                to: None,
                tls_creds,
                allow_no_return_path: tls_creds.is_some(),
                log: None,
                consents: &consents,
            };
            let files = files(&[InstallPart::Relay], &options, &tools).unwrap();
            let service = files.into_iter().find(|file| file.path == SERVICE).unwrap();
            match service.content {
                Content::Text { text, .. } => text,
                Content::Link(_) => String::new(),
            }
        };
        let plain = service(None);
        assert!(plain.contains("relay --serve --metrics"), "{plain}");
        assert!(!plain.contains("tls-creds"), "{plain}");
        let placeholders = ["@PROGRAM", "@OPTIONS", "@GROUPS"].map(|it| plain.contains(it));
        assert_eq!(placeholders, [false; 3], "{plain}");
        let tls = service(Some(Path::new("/etc/pki/qemu")));
        let options = "--tls-creds /etc/pki/qemu --allow-no-return-path --metrics";
        assert!(tls.contains(options), "{tls}");
    }
}
