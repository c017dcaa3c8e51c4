//! Decision about the save image of a VM that libvirt restores.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cpreg_report::command::quote;
use cpreg_snapshot::libvirt::SaveFormat;

/// Save image that libvirt has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenImage {
    pub(super) path: PathBuf,
    /// `true` if the path leads to the open file.
    pub(super) is_reachable: bool,
    /// Content, or the error of reading it.
    pub(super) content: Result<ImageContent, String>,
}

/// Properties of an image that decide whether the hook converts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageContent {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) format: SaveFormat,
}

/// VM that libvirt restores, according to its XML.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestoredVm<'a> {
    pub(super) name: &'a str,
    pub(super) uuid: Option<&'a str>,
}

impl RestoredVm<'_> {
    /// Returns `true` if the image holds this VM.
    fn is_in(&self, image: &ImageContent) -> bool {
        let is_same_uuid = match (self.uuid, &image.uuid) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            _ => true,
        };
        self.name == image.name && is_same_uuid
    }
}

/// Treatment of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RestoreDecision<'a> {
    /// Convert the image in place, if it does not load unchanged.
    Convert(&'a Path),
    /// Leave the image alone.
    Leave(LeaveReason),
}

/// Reason for which the hook leaves an image alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeaveReason {
    /// libvirt has no image of this VM open.
    NoImage,
    /// libvirt has several images of this VM open.
    SeveralImages(Vec<PathBuf>),
    /// The image cannot be read.
    Unreadable(PathBuf, String),
    /// No path leads to the open image.
    Unreachable(PathBuf),
    /// The image is compressed: cpreg would have to replace the file that libvirt has open.
    Compressed(PathBuf, SaveFormat),
}

impl LeaveReason {
    /// Returns the log line, with the command that converts the image for this destination.
    pub(super) fn describe(&self, destination: &str) -> String {
        let mut text = "left alone: ".to_owned();
        // A write to a string does not fail.
        let _ = match self {
            Self::NoImage => write!(
                text,
                "libvirt has no save image of this VM open, as with --bypass-cache; if the restore \
                 fails, run `cpreg convert IMAGE {destination} --in-place`, and restore the VM again"
            ),
            Self::SeveralImages(paths) => {
                let paths: Vec<_> = paths.iter().map(|it| it.display().to_string()).collect();
                write!(
                    text,
                    "libvirt has several save images of this VM open: {}",
                    paths.join(", ")
                )
            }
            Self::Unreadable(path, message) => write!(text, "{}: {message}", path.display()),
            Self::Unreachable(path) => write!(
                text,
                "the open save image {} was moved or removed",
                path.display()
            ),
            Self::Compressed(path, format) => write!(
                text,
                "{} is compressed with {}, and libvirt already has it open; if the restore fails, \
                 run `cpreg convert {} {destination} --in-place`, and restore the VM again",
                path.display(),
                format.name(),
                quote(&path.display().to_string())
            ),
        };
        text
    }
}

/// Decides about the image of a VM. Any doubt leaves it alone.
pub(super) fn decide<'a>(vm: &RestoredVm<'_>, images: &'a [OpenImage]) -> RestoreDecision<'a> {
    let own = images.iter().filter_map(|image| match &image.content {
        Ok(content) if vm.is_in(content) => Some((image, content.format)),
        _ => None,
    });
    let own: Vec<_> = own.collect();
    let leave = RestoreDecision::Leave;
    match own[..] {
        [] => {
            let unreadable = images.iter().find_map(|image| {
                let message = image.content.as_ref().err()?;
                Some(LeaveReason::Unreadable(image.path.clone(), message.clone()))
            });
            leave(unreadable.unwrap_or(LeaveReason::NoImage))
        }
        [(image, _)] if !image.is_reachable => leave(LeaveReason::Unreachable(image.path.clone())),
        [(image, format)] if format.is_compressed() => {
            leave(LeaveReason::Compressed(image.path.clone(), format))
        }
        [(image, _)] => RestoreDecision::Convert(&image.path),
        _ => {
            let paths = own.iter().map(|(image, _)| image.path.clone());
            leave(LeaveReason::SeveralImages(paths.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6a1b6a3e-0000-4000-8000-000000000001";

    fn image(path: &str, name: &str, uuid: Option<&str>, format: SaveFormat) -> OpenImage {
        OpenImage {
            path: path.into(),
            is_reachable: true,
            content: Ok(ImageContent {
                name: name.to_owned(),
                uuid: uuid.map(str::to_owned),
                format,
            }),
        }
    }

    #[test]
    fn an_image_is_converted_only_without_doubt() {
        let web = image("/web", "web", Some(UUID), SaveFormat::Raw);
        let upper = image(
            "/web",
            "web",
            Some(&UUID.to_uppercase()),
            SaveFormat::Sparse,
        );
        let unnamed = image("/web", "web", None, SaveFormat::Raw);
        let other = image("/db", "db", Some("2"), SaveFormat::Raw);
        let other_uuid = image("/old", "web", Some("2"), SaveFormat::Raw);
        let gzip = image("/web", "web", Some(UUID), SaveFormat::Gzip);
        let second = image("/web2", "web", Some(UUID), SaveFormat::Raw);
        let moved = OpenImage {
            is_reachable: false,
            ..web.clone()
        };
        let damaged = OpenImage {
            path: "/bad".into(),
            content: Err("cut".to_owned()),
            ..web.clone()
        };
        let path = |path: &str| PathBuf::from(path);
        let convert = RestoreDecision::Convert(Path::new("/web"));
        let leave = RestoreDecision::Leave;
        for (images, expected) in [
            (vec![web.clone()], convert.clone()),
            (vec![upper], convert.clone()),
            (vec![unnamed], convert.clone()),
            (vec![other.clone(), web.clone()], convert.clone()),
            (vec![damaged.clone(), web.clone()], convert),
            (vec![], leave(LeaveReason::NoImage)),
            (vec![other], leave(LeaveReason::NoImage)),
            (vec![other_uuid], leave(LeaveReason::NoImage)),
            (
                vec![damaged],
                leave(LeaveReason::Unreadable(path("/bad"), "cut".to_owned())),
            ),
            (vec![moved], leave(LeaveReason::Unreachable(path("/web")))),
            (
                vec![gzip],
                leave(LeaveReason::Compressed(path("/web"), SaveFormat::Gzip)),
            ),
            (
                vec![web, second],
                leave(LeaveReason::SeveralImages(vec![
                    path("/web"),
                    path("/web2"),
                ])),
            ),
        ] {
            let vm = RestoredVm {
                name: "web",
                uuid: Some(UUID),
            };
            assert_eq!(decide(&vm, &images), expected, "{images:?}");
        }
    }

    #[test]
    fn a_compressed_image_has_a_command() {
        let reason = LeaveReason::Compressed("/a b".into(), SaveFormat::Xz);
        assert_eq!(
            reason.describe("kvm"),
            "left alone: /a b is compressed with xz, and libvirt already has it open; if the \
             restore fails, run `cpreg convert '/a b' kvm --in-place`, and restore the VM again"
        );
    }
}
