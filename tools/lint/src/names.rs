//! Check that names say what a thing is. A pronoun, adverb, preposition or participle alone does
//! not.

use std::path::Path;

use proc_macro2::Ident;
use syn::visit::{self, Visit};
use syn::{
    Field, ImplItemConst, ImplItemFn, ItemConst, ItemEnum, ItemFn, ItemMod, ItemStatic, ItemStruct,
    ItemTrait, ItemType, TraitItemFn, Variant,
};

use crate::exceptions::GENERATED_FILES;
use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Words that must not be the whole name of a type, trait, constant or module.
const REJECTED_NAMES: &[&str] = &[
    "again", "ahead", "alone", "asked", "back", "before", "behind", "beside", "both", "breath",
    "brisk", "calm", "came", "changed", "come", "did", "early", "enough", "found", "going", "gone",
    "held", "here", "instead", "kept", "late", "looked", "lost", "made", "most", "named", "often",
    "opened", "ours", "patience", "quiet", "said", "says", "seen", "small", "soon", "sound",
    "taken", "then", "there", "told", "tried", "unheard", "unsaid", "wired",
];

/// Words that must not be the whole name of a function or method.
const REJECTED_FUNCTIONS: &[&str] = &[
    "again",
    "ahead",
    "asked",
    "back",
    "behind",
    "beside",
    "came",
    "come",
    "did",
    "going",
    "hear",
    "here",
    "instead",
    "ours",
    "patiently",
    "said",
    "soon",
    "there",
    "told",
    "tried",
    "unsaid",
];

/// Words that must not be the whole name of a field or variant.
const REJECTED_FIELDS: &[&str] = &[
    "ahead", "asked", "behind", "beside", "came", "come", "did", "going", "here", "instead",
    "ours", "said", "says", "soon", "there", "told", "tried",
];

/// Parts that no name must have.
const REJECTED_PARTS: &[&str] = &[
    "goes_on",
    "went_on",
    "go_on",
    "is_told",
    "way_back",
    "so_many",
    "so_far",
    "foretold",
    "whereabouts",
    "has_not_got",
];

/// Finds names of items, fields and variants that are rejected.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace.rust_files()? {
        if GENERATED_FILES
            .iter()
            .any(|(file, _)| path.as_os_str() == *file)
        {
            continue;
        }
        let text = workspace.read_text(&path)?;
        findings.extend(
            check_text(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?,
        );
    }
    Ok(findings)
}

fn check_text(path: &Path, text: &str) -> syn::Result<Vec<Finding>> {
    let mut names = Names {
        path,
        findings: Vec::new(),
    };
    names.visit_file(&syn::parse_file(text)?);
    Ok(names.findings)
}

struct Names<'p> {
    path: &'p Path,
    findings: Vec<Finding>,
}

impl Names<'_> {
    fn check(&mut self, ident: &Ident, rejected: &[&str]) {
        let name = snake_case(&ident.to_string());
        let is_limit = name.starts_with("most_") && ident.to_string().starts_with("MOST_");
        if is_limit
            || rejected.contains(&name.as_str())
            || REJECTED_PARTS.iter().any(|part| has_part(&name, part))
        {
            let line = ident.span().start().line;
            self.findings.push(format!(
                "{}:{line}: `{ident}` does not say what it is",
                self.path.display()
            ));
        }
    }
}

/// Returns a name in lower case, with `_` between its words.
fn snake_case(name: &str) -> String {
    if name.chars().all(|character| !character.is_lowercase()) {
        return name.to_lowercase();
    }
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// Returns `true` if a name has these words one after the other.
fn has_part(name: &str, part: &str) -> bool {
    let padded = format!("_{name}_");
    padded.contains(&format!("_{part}_"))
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_type(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_static(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.check(&item.ident, REJECTED_NAMES);
        visit::visit_item_mod(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.check(&item.ident, REJECTED_FIELDS);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.check(&item.sig.ident, REJECTED_FUNCTIONS);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.check(&item.sig.ident, REJECTED_FUNCTIONS);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.check(&item.sig.ident, REJECTED_FUNCTIONS);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if let Some(ident) = &field.ident {
            self.check(ident, REJECTED_FIELDS);
        }
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.check(&variant.ident, REJECTED_FIELDS);
        visit::visit_variant(self, variant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(text: &str) -> Vec<Finding> {
        check_text(Path::new("a.rs"), text).expect("Rust")
    }

    #[test]
    fn adverbs_and_participles_alone_are_rejected() {
        for text in [
            "struct There;",
            "const SOON: u8 = 1;",
            "mod ahead {}",
            "fn hear() {}",
            "struct A { told: u8 }",
            "enum A { Came }",
            "const MOST_HELD: u8 = 1;",
            "trait A { fn went_on_early(); }",
            "enum A { WentOn }",
        ] {
            assert_eq!(rejected(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn nouns_and_verbs_are_accepted() {
        let text = "struct ReturnPath { before: u8, after: u8 }\n\
                    const MAX_HEADER_LEN: usize = 1;\n\
                    enum Phase { Found }\n\
                    fn find_there() {}\n\
                    fn utmost_care() {}\n";
        assert!(rejected(text).is_empty(), "{:?}", rejected(text));
    }
}
