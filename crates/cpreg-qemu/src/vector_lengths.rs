//! SVE vector lengths of a VM, queried from its QEMU.
//!
//! QEMU does not send the lengths, but each vCPU has a property for each length (`sve128` to
//! `sve2048`). Its value is `true` if the guest has the length. A vCPU without SVE has `false` in
//! all of them; a CPU model that cannot have SVE lacks the properties (`target/arm/cpu64.c` of QEMU
//! 5.2 to 11.1; seen under KVM with 10.0 and 11.1).

use cpreg::hardware::VectorLengths;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::qmp::{Monitor, WaitOptions};

/// Number of vector lengths in SVE. The first is 128 bits, and each is 128 bits longer than the one
/// before.
const LENGTHS: u32 = 16;

/// Returns the vector lengths of a vCPU, or `None` if it has no SVE.
///
/// `path` is the QOM path of the vCPU, as `query-cpus-fast` prints it.
///
/// # Errors
/// Returns an error if the monitor does not reply, or its reply is no truth value.
pub(crate) fn query(
    qmp: &mut dyn Monitor,
    path: &str,
    options: &WaitOptions<'_>,
) -> Result<Option<VectorLengths>, Error> {
    let mut bits = 0;
    for number in 0..LENGTHS {
        match query_property(qmp, path, number, options)? {
            // Every set of lengths has 128 bits.
            None | Some(false) if number == 0 => return Ok(None),
            None | Some(false) => {}
            Some(true) => bits |= 1 << number,
        }
    }
    Ok(Some(VectorLengths::from_bits(bits)))
}

/// Returns the value of the property of a length, or `None` if the vCPU lacks the property.
fn query_property(
    qmp: &mut dyn Monitor,
    path: &str,
    number: u32,
    options: &WaitOptions<'_>,
) -> Result<Option<bool>, Error> {
    let property = format!("sve{}", (number + 1) * 128);
    let arguments = json!({"path": path, "property": property});
    match qmp.execute("qom-get", arguments, options) {
        Ok(Value::Bool(has_length)) => Ok(Some(has_length)),
        Ok(_) => Err(Error::unexpected_reply("qom-get")),
        Err(error) if matches!(error.kind(), ErrorKind::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the QOM path of the first vCPU.
///
/// # Errors
/// Returns an error if the monitor does not reply, or lists no vCPU.
pub(crate) fn query_first_vcpu(
    qmp: &mut dyn Monitor,
    options: &WaitOptions<'_>,
) -> Result<String, Error> {
    let vcpus = qmp.execute("query-cpus-fast", json!({}), options)?;
    let path = vcpus.get(0).and_then(|vcpu| vcpu.get("qom-path"));
    let path = path.and_then(Value::as_str);
    Ok(path
        .ok_or(Error::unexpected_reply("query-cpus-fast"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use super::*;
    use crate::qmp::Version;

    /// Monitor of a QEMU whose vCPU has these properties.
    struct FakeMonitor<'a> {
        version: Version,
        properties: &'a [(&'a str, Value)],
        queries: usize,
    }

    impl Monitor for FakeMonitor<'_> {
        fn version(&self) -> &Version {
            &self.version
        }

        fn execute_with(
            &mut self,
            command: &str,
            arguments: Value,
            _: Option<BorrowedFd<'_>>,
            _: &WaitOptions<'_>,
        ) -> Result<Value, Error> {
            assert_eq!((command, &arguments["path"]), ("qom-get", &json!("/cpu")));
            self.queries += 1;
            let mut properties = self.properties.iter();
            let property = properties.find(|(name, _)| arguments["property"] == *name);
            property.map_or_else(
                || {
                    Err(Error::new(ErrorKind::Refused {
                        class: "GenericError".to_owned(),
                        description: "Property not found".to_owned(),
                    }))
                },
                |(_, value)| Ok(value.clone()),
            )
        }
    }

    fn query_fake(properties: &[(&str, Value)]) -> (Result<Option<u16>, Error>, usize) {
        let mut monitor = FakeMonitor {
            version: Version {
                major: 10,
                minor: 0,
                micro: 0,
                package: String::new(),
            },
            properties,
            queries: 0,
        };
        let options = WaitOptions::with_timeout(Duration::from_secs(1));
        let lengths = query(&mut monitor, "/cpu", &options);
        let bits = lengths.map(|lengths| lengths.map(VectorLengths::bits));
        (bits, monitor.queries)
    }

    #[test]
    fn a_property_that_is_true_is_a_length() {
        let properties = [
            ("sve128", json!(true)),
            ("sve256", json!(true)),
            ("sve384", json!(false)),
            ("sve2048", json!(true)),
        ];
        let (lengths, queries) = query_fake(&properties);
        assert_eq!((lengths.expect("a set"), queries), (Some(0x8003), 16));
    }

    #[test]
    fn a_vcpu_without_sve_has_no_lengths() {
        for properties in [&[][..], &[("sve128", json!(false))]] {
            let (lengths, queries) = query_fake(properties);
            assert_eq!((lengths.expect("no set"), queries), (None, 1));
        }
    }

    #[test]
    fn another_reply_is_an_error() {
        let (lengths, _) = query_fake(&[("sve128", json!(1))]);
        let error = lengths.expect_err("no truth value");
        assert!(
            matches!(error.kind(), ErrorKind::UnexpectedReply(_)),
            "{error:?}"
        );
    }
}
