//! [`Version`]: the version that a QEMU reports.

use std::fmt;

use serde_json::Value;

/// Version that a QEMU reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version: 10 of 10.0.13.
    pub major: u32,
    /// Minor version: 0 of 10.0.13.
    pub minor: u32,
    /// Micro version: 13 of 10.0.13.
    pub micro: u32,
    /// Addition of the packager (`Debian 1:10.0.13+ds-0+deb13u1`), or an empty string.
    pub package: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number())?;
        if self.package.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.package)
        }
    }
}

impl Version {
    /// Returns the version number: `10.0.13`.
    pub fn number(&self) -> String {
        format!("{}.{}.{}", self.major, self.minor, self.micro)
    }

    /// Parses the `version` of a greeting, or the reply to `query-version`. Both have the same
    /// form.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let number = |name| u32::try_from(value.get("qemu")?.get(name)?.as_u64()?).ok();
        let package = value.get("package").and_then(Value::as_str).unwrap_or("");
        // Distributions write "Debian 1:7.2…"; upstream writes "", " (…)" or "v7.2.0-dirty".
        let package = package.trim().trim_start_matches('(').trim_end_matches(')');
        Some(Self {
            major: number("major")?,
            minor: number("minor")?,
            micro: number("micro")?,
            package: package.to_owned(),
        })
    }
}
