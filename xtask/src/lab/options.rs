//! The arguments of the lab's commands: `--name value`, any number of times, then words.

use crate::Result;

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    named: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
    /// What is not an option; all after `--`.
    pub(super) words: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Sorts arguments; `names` take a value, `flags` do not. Short forms are names of their own.
    ///
    /// # Errors
    /// If there is another option, or one has no value.
    pub(super) fn parse(arguments: &[&'a str], names: &[&str], flags: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if *argument == "--" {
                options.words.extend(rest);
                break;
            }
            if names.contains(argument) {
                let value = rest.next();
                let value = value.ok_or_else(|| format!("{argument} wants a value"))?;
                options.named.push((argument, value));
            } else if flags.contains(argument) {
                options.flags.push(argument);
            } else if argument.starts_with('-') {
                let known = [names, flags].concat().join(", ");
                return Err(format!("no option {argument} here: {known}").into());
            } else {
                options.words.push(argument);
            }
        }
        Ok(options)
    }

    /// All values of an option.
    pub(super) fn all(&self, name: &str) -> Vec<&'a str> {
        let values = self.named.iter().filter(|(other, _)| *other == name);
        values.map(|(_, value)| *value).collect()
    }

    /// The last value of an option.
    pub(super) fn last(&self, name: &str) -> Option<&'a str> {
        self.all(name).pop()
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_words_are_told_apart() {
        let arguments = [
            "--cpu", "max", "--cpu", "n1", "--again", "word", "--", "--cpu",
        ];
        let options = Options::parse(&arguments, &["--cpu"], &["--again"]).unwrap();
        assert_eq!(options.all("--cpu"), ["max", "n1"]);
        assert_eq!(options.last("--cpu"), Some("n1"));
        assert!(options.has("--again"));
        assert_eq!(options.words, ["word", "--cpu"]);
        assert!(Options::parse(&["--odd"], &["--cpu"], &[]).is_err());
        assert!(Options::parse(&["--cpu"], &["--cpu"], &[]).is_err());
    }
}
