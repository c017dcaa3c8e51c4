//! Collection of the uses between files.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, Item, ItemFn, ItemMod, Macro, Meta, PatIdent, Path};
use syn::{ItemUse, Stmt, TraitItemFn, Visibility};

use super::resolve::{Resolution, Resolver, Target};
use super::tree::{self, Definition, FileIndex, ImportPath, ModuleIndex, Tree};

/// Pairs of a file and another file that it uses, with the used names.
pub(super) type Edges = BTreeMap<(FileIndex, FileIndex), BTreeSet<String>>;

/// Uses between the files of a crate, and the paths that cannot be resolved.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) edges: Edges,
    pub(super) unresolved: BTreeSet<(FileIndex, String)>,
}

/// Collects the uses between the files of a crate.
pub(super) fn collect(tree: &Tree) -> Uses {
    let mut uses = Uses::default();
    for file in &tree.files {
        let mut collector = Collector {
            tree,
            resolver: Resolver::new(tree),
            module: file.module,
            inline_counts: vec![BTreeMap::new()],
            blocks: Vec::new(),
            variables: Vec::new(),
            uses: &mut uses,
        };
        collector.visit_file(&file.syntax);
    }
    uses
}

/// Visitor of one file.
struct Collector<'a> {
    tree: &'a Tree,
    resolver: Resolver<'a>,
    /// Module of the visited code.
    module: ModuleIndex,
    /// Number of inline modules already visited, by name, for each enclosing module.
    inline_counts: Vec<BTreeMap<String, usize>>,
    /// Definitions and imports of the enclosing blocks.
    blocks: Vec<BTreeMap<String, Definition>>,
    /// Variables of the enclosing functions.
    variables: Vec<BTreeSet<String>>,
    uses: &'a mut Uses,
}

impl Collector<'_> {
    fn file(&self) -> FileIndex {
        self.tree.modules[self.module].file
    }

    /// Records a path that code mentions.
    fn mention(&mut self, path: &ImportPath) {
        let Some(first) = path.segments.first() else {
            return;
        };
        let mut path = path.clone();
        if !path.is_external {
            if path.segments.len() == 1 && self.is_variable(first) {
                return;
            }
            let local_definition = self.blocks.iter().rev().find_map(|names| names.get(first));
            match local_definition {
                Some(Definition::Import(import)) => {
                    let mut segments = import.segments.clone();
                    segments.extend_from_slice(&path.segments[1..]);
                    path = ImportPath {
                        segments,
                        is_external: import.is_external,
                    };
                }
                Some(_) => return,
                None => {}
            }
        }
        self.record(&path);
    }

    fn is_variable(&self, name: &str) -> bool {
        self.variables.iter().any(|names| names.contains(name))
    }

    fn record(&mut self, path: &ImportPath) {
        let file = self.file();
        match self.resolver.find(self.module, path) {
            Resolution::Resolved(targets) => {
                for target in targets {
                    if let Target::Item(other, name) = target {
                        self.add(other, name);
                    }
                }
            }
            Resolution::External => {}
            Resolution::Unresolved => {
                let unresolved = (file, path.segments.join("::"));
                self.uses.unresolved.insert(unresolved);
            }
        }
    }

    fn add(&mut self, other: FileIndex, name: String) {
        let file = self.file();
        if file != other {
            let names = self.uses.edges.entry((file, other)).or_default();
            names.insert(name);
        }
    }

    /// Records the paths among unparsed tokens.
    fn visit_tokens(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let is_punctuation = |index: usize, character: char| match tokens.get(index) {
            Some(TokenTree::Punct(punctuation)) => punctuation.as_char() == character,
            _ => false,
        };
        let is_separator = |index| is_punctuation(index, ':') && is_punctuation(index + 1, ':');
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            match token {
                TokenTree::Group(group) => self.visit_tokens(&group.stream()),
                TokenTree::Ident(name) => {
                    let start = index;
                    let mut segments = vec![tree::unraw_name(name)];
                    while is_separator(index + 1) {
                        let Some(TokenTree::Ident(name)) = tokens.get(index + 3) else {
                            break;
                        };
                        segments.push(tree::unraw_name(name));
                        index += 3;
                    }
                    let after = index + 1;
                    let is_field = start > 0 && is_punctuation(start - 1, '.');
                    let is_label = (is_punctuation(after, ':') && !is_separator(after))
                        || (is_punctuation(after, '=')
                            && !is_punctuation(after + 1, '=')
                            && !is_punctuation(after + 1, '>'));
                    let is_macro = is_punctuation(after, '!')
                        && matches!(tokens.get(after + 1), Some(TokenTree::Group(group))
                            if group.delimiter() != Delimiter::None);
                    let is_bound = start > 0 && is_punctuation(start - 1, '$');
                    let is_single = segments.len() == 1;
                    if is_macro && is_single {
                        self.mention_macro(&segments[0]);
                    } else if !(is_single && (is_field || is_label || is_bound)) {
                        let is_external = start > 1 && is_separator(start - 2);
                        self.mention(&ImportPath {
                            segments,
                            is_external,
                        });
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            index += 1;
        }
    }

    fn mention_macro(&mut self, name: &str) {
        if let Some(file) = self.resolver.find_macro(self.module, name) {
            self.add(file, format!("{name}!"));
        } else {
            self.mention(&ImportPath {
                segments: vec![name.to_owned()],
                is_external: false,
            });
        }
    }

    /// Visits a function, whose variables hide items of the same names.
    fn visit_with_variables(&mut self, variables: BTreeSet<String>, visit: impl FnOnce(&mut Self)) {
        self.variables.push(variables);
        visit(self);
        self.variables.pop();
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !tree::is_for_tests(tree::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !tree::is_for_tests(&function.attrs) {
            let variables = Variables::collect(|names| names.visit_impl_item_fn(function));
            self.visit_with_variables(variables, |visitor| {
                visit::visit_impl_item_fn(visitor, function);
            });
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if !tree::is_for_tests(&function.attrs) {
            let variables = Variables::collect(|names| names.visit_trait_item_fn(function));
            self.visit_with_variables(variables, |visitor| {
                visit::visit_trait_item_fn(visitor, function);
            });
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let variables = Variables::collect(|names| names.visit_item_fn(function));
        self.visit_with_variables(variables, |visitor| visit::visit_item_fn(visitor, function));
    }

    fn visit_item_mod(&mut self, declaration: &'ast ItemMod) {
        // A module with a file of its own is visited with that file.
        let Some((_, items)) = &declaration.content else {
            return;
        };
        let name = tree::unraw_name(&declaration.ident);
        let Some(counts) = self.inline_counts.last_mut() else {
            return;
        };
        let count = counts.entry(name.clone()).or_default();
        let number = *count;
        *count += 1;
        let children = &self.tree.modules[self.module].children;
        let mut inline = children.iter().filter(|(child, index)| {
            *child == name && self.tree.modules[*index].file == self.tree.modules[self.module].file
        });
        if let Some((_, child)) = inline.nth(number) {
            let enclosing_module = std::mem::replace(&mut self.module, *child);
            self.inline_counts.push(BTreeMap::new());
            for item in items {
                self.visit_item(item);
            }
            self.inline_counts.pop();
            self.module = enclosing_module;
        }
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        if tree::is_reexport(import) {
            return;
        }
        for import in tree::imports(import) {
            // A name that `*` imports counts where code mentions it.
            if !import.is_glob {
                self.record(&import.path);
            }
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let mut names = BTreeMap::new();
        for statement in &block.stmts {
            match statement {
                Stmt::Item(Item::Use(import)) => {
                    for import in tree::imports(import) {
                        if let Some(name) = import.name {
                            names.insert(name, Definition::Import(import.path));
                        }
                    }
                }
                Stmt::Item(item) => {
                    if let Some(name) = tree::name_of(item) {
                        names.insert(name, Definition::Item);
                    }
                }
                _ => {}
            }
        }
        self.blocks.push(names);
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.mention(&ImportPath {
            segments: path
                .segments
                .iter()
                .map(|segment| tree::unraw_name(&segment.ident))
                .collect(),
            is_external: path.leading_colon.is_some(),
        });
        visit::visit_path(self, path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        // A constant or a unit struct in a pattern parses as a variable.
        let name = tree::unraw_name(&pattern.ident);
        if !is_variable_name(&name) {
            self.mention(&ImportPath {
                segments: vec![name],
                is_external: false,
            });
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        match call.path.get_ident() {
            Some(name) => self.mention_macro(&tree::unraw_name(name)),
            None => self.visit_path(&call.path),
        }
        self.visit_tokens(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.visit_tokens(&list.tokens);
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_lowercase() || first == '_')
}

/// Visitor that collects the variables of a function.
#[derive(Default)]
struct Variables {
    names: BTreeSet<String>,
}

impl Variables {
    fn collect(visit: impl FnOnce(&mut Self)) -> BTreeSet<String> {
        let mut variables = Self::default();
        visit(&mut variables);
        variables.names
    }
}

impl<'ast> Visit<'ast> for Variables {
    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        let name = tree::unraw_name(&pattern.ident);
        if is_variable_name(&name) {
            self.names.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }
}
