//! Modules of one crate, each with its file, definitions and imports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Meta, UseTree, Visibility};

use crate::result::Result;

/// Index of a file in [`Tree::files`].
pub(super) type FileIndex = usize;

/// Index of a module in [`Tree::modules`].
pub(super) type ModuleIndex = usize;

/// All modules of one crate, without test modules.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    pub(super) modules: Vec<Module>,
}

/// A source file.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Module of the items at the top level of the file.
    pub(super) module: ModuleIndex,
    pub(super) syntax: syn::File,
}

/// A module, in a file of its own or inline.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) file: FileIndex,
    pub(super) parent: Option<ModuleIndex>,
    /// Child modules, with their names. `cfg` can give several the same name.
    pub(super) children: Vec<(String, ModuleIndex)>,
    pub(super) names: BTreeMap<String, Vec<Definition>>,
    /// Paths of `use path::*`.
    pub(super) globs: Vec<ImportPath>,
    /// Names of `macro_rules!`, which child modules see without an import.
    pub(super) macros: Vec<String>,
    /// `true` if a macro is called in item position. It can define any name.
    pub(super) calls_item_macro: bool,
}

/// Meaning of a name in a module.
#[derive(Clone, Debug)]
pub(super) enum Definition {
    Module(ModuleIndex),
    /// Any item but a module, defined in the module itself.
    Item,
    Import(ImportPath),
}

/// A path as written in a `use`.
#[derive(Clone, Debug)]
pub(super) struct ImportPath {
    pub(super) segments: Vec<String>,
    /// `true` if the path begins with `::`.
    pub(super) is_external: bool,
}

/// A name that a `use` brings into scope.
#[derive(Clone, Debug)]
pub(super) struct Import {
    pub(super) path: ImportPath,
    /// The name in scope; `None` for `*` and for `as _`.
    pub(super) name: Option<String>,
    pub(super) is_glob: bool,
}

impl Tree {
    /// Reads the crate whose root is `root`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or parsed, or a module has no file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let folder = folder_of(root);
        tree.read_file(root, &folder, None)?;
        Ok(tree)
    }

    /// Reads a file whose child modules have their files in `folder`.
    fn read_file(
        &mut self,
        path: &Path,
        folder: &Path,
        parent: Option<ModuleIndex>,
    ) -> Result<ModuleIndex> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let syntax = syn::parse_file(&text)
            .map_err(|error| format!("cannot parse {}: {error}", path.display()))?;
        let file = self.files.len();
        let module = self.new_module(file, parent);
        let items = syntax.items.clone();
        self.files.push(File {
            path: path.to_owned(),
            module,
            syntax,
        });
        self.read_items(module, &items, folder)?;
        Ok(module)
    }

    fn new_module(&mut self, file: FileIndex, parent: Option<ModuleIndex>) -> ModuleIndex {
        self.modules.push(Module {
            file,
            parent,
            children: Vec::new(),
            names: BTreeMap::new(),
            globs: Vec::new(),
            macros: Vec::new(),
            calls_item_macro: false,
        });
        self.modules.len() - 1
    }

    fn read_items(&mut self, module: ModuleIndex, items: &[Item], folder: &Path) -> Result<()> {
        for item in items {
            if is_for_tests(attributes(item)) {
                continue;
            }
            match item {
                Item::Mod(declaration) => self.read_module(module, declaration, folder)?,
                Item::Use(import) => {
                    for import in imports(import) {
                        if import.is_glob {
                            self.modules[module].globs.push(import.path);
                        } else if let Some(name) = import.name {
                            self.define(module, name, Definition::Import(import.path));
                        }
                    }
                }
                Item::Macro(call) => match &call.ident {
                    Some(name) => {
                        self.modules[module].macros.push(name.to_string());
                        self.define(module, name.to_string(), Definition::Item);
                    }
                    None => self.modules[module].calls_item_macro = true,
                },
                _ => {
                    if let Some(name) = name_of(item) {
                        self.define(module, name, Definition::Item);
                    }
                }
            }
        }
        Ok(())
    }

    fn define(&mut self, module: ModuleIndex, name: String, definition: Definition) {
        let names = &mut self.modules[module].names;
        names.entry(name).or_default().push(definition);
    }

    /// Reads a module that `parent` declares. The child modules of `parent` have their files in
    /// `folder`.
    fn read_module(
        &mut self,
        parent: ModuleIndex,
        declaration: &ItemMod,
        folder: &Path,
    ) -> Result<()> {
        let name = unraw_name(&declaration.ident);
        let child = if let Some((_, items)) = &declaration.content {
            let child = self.new_module(self.modules[parent].file, Some(parent));
            self.read_items(child, items, &folder.join(&name))?;
            child
        } else {
            let declaring_file = self.files[self.modules[parent].file].path.clone();
            let path = match path_attribute(&declaration.attrs) {
                Some(path) => folder_of(&declaring_file).join(path),
                None => module_file(folder, &name).ok_or_else(|| {
                    format!(
                        "{}: no file of module {name} in {}",
                        declaring_file.display(),
                        folder.display()
                    )
                })?,
            };
            let is_folder_root = path.file_name().is_some_and(|file| file == "mod.rs")
                || path_attribute(&declaration.attrs).is_some();
            let child_folder = if is_folder_root {
                folder_of(&path)
            } else {
                path.with_extension("")
            };
            self.read_file(&path, &child_folder, Some(parent))?
        };
        let children = &mut self.modules[parent].children;
        children.push((name.clone(), child));
        self.define(parent, name, Definition::Module(child));
        Ok(())
    }
}

/// Returns the file of the module `name` in `folder`: `name.rs` or `name/mod.rs`.
fn module_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let plain = folder.join(name).with_extension("rs");
    let nested = folder.join(name).join("mod.rs");
    [plain, nested].into_iter().find(|path| path.is_file())
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Returns an identifier without `r#`.
pub(super) fn unraw_name(name: &proc_macro2::Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Returns the imports of a `use`.
pub(super) fn imports(import: &ItemUse) -> Vec<Import> {
    let mut imports = Vec::new();
    let prefix = ImportPath {
        segments: Vec::new(),
        is_external: import.leading_colon.is_some(),
    };
    add_imports(&import.tree, prefix, &mut imports);
    imports
}

fn add_imports(tree: &UseTree, mut prefix: ImportPath, imports: &mut Vec<Import>) {
    let (name, renamed) = match tree {
        UseTree::Path(part) => {
            prefix.segments.push(unraw_name(&part.ident));
            return add_imports(&part.tree, prefix, imports);
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                add_imports(tree, prefix.clone(), imports);
            }
            return;
        }
        UseTree::Glob(_) => {
            imports.push(Import {
                path: prefix,
                name: None,
                is_glob: true,
            });
            return;
        }
        UseTree::Name(name) => (unraw_name(&name.ident), None),
        UseTree::Rename(name) => (unraw_name(&name.ident), Some(unraw_name(&name.rename))),
    };
    // `use path::{self}` imports `path` itself.
    if name != "self" || prefix.segments.is_empty() {
        prefix.segments.push(name);
    }
    let name = renamed.or_else(|| prefix.segments.last().cloned());
    imports.push(Import {
        path: prefix,
        name: name.filter(|name| name != "_"),
        is_glob: false,
    });
}

/// Returns `true` if a `use` re-exports its imports to other modules.
pub(super) fn is_reexport(import: &ItemUse) -> bool {
    !matches!(import.vis, Visibility::Inherited)
}

/// Returns `true` for `#[cfg(test)]` and for `#[cfg(all(test, …))]`.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<Meta>()
                .is_ok_and(|condition| needs_test(&condition))
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|conditions| conditions.iter().any(needs_test)),
        _ => false,
    }
}

/// Returns the value of `#[path = "…"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        if !attribute.path().is_ident("path") {
            return None;
        }
        match &attribute.meta {
            Meta::NameValue(pair) => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        }
    })
}

/// Returns the name that an item other than a module, a `use` or a macro defines.
pub(super) fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::ExternCrate(_) => return None,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(unraw_name(name))
}

/// Returns the attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
