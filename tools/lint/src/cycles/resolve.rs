//! Resolution of a path to the file that defines it.

use super::tree::{Definition, FileIndex, ImportPath, ModuleIndex, Tree};

/// Meaning of a path in this crate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Module(ModuleIndex),
    /// An item, with the file that defines it and its name in that file.
    Item(FileIndex, String),
    /// An item of another crate.
    External,
}

/// Result of resolving a path.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Resolution {
    /// All meanings, because one name can be a module, a type and a function.
    Resolved(Vec<Target>),
    /// The path begins with a name that this crate does not define.
    External,
    /// The path begins in this crate but cannot be resolved.
    Unresolved,
}

/// Resolver for the paths of one crate.
pub(super) struct Resolver<'a> {
    tree: &'a Tree,
}

/// Names that are being resolved, so that a cyclic import does not recurse forever.
type Pending = Vec<(ModuleIndex, String)>;

impl<'a> Resolver<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self { tree }
    }

    /// Resolves `path` where the names of `module` are in scope.
    pub(super) fn find(&self, module: ModuleIndex, path: &ImportPath) -> Resolution {
        self.find_pending(module, path, &mut Pending::new())
    }

    /// Resolves a macro by its name. `module` or a module above it defines the macro.
    pub(super) fn find_macro(&self, module: ModuleIndex, name: &str) -> Option<FileIndex> {
        let mut module = Some(module);
        while let Some(index) = module {
            let module_data = &self.tree.modules[index];
            if module_data.macros.iter().any(|known| known == name) {
                return Some(module_data.file);
            }
            module = module_data.parent;
        }
        None
    }

    fn find_pending(
        &self,
        module: ModuleIndex,
        path: &ImportPath,
        pending: &mut Pending,
    ) -> Resolution {
        let Some((first, mut rest)) = path.segments.split_first() else {
            return Resolution::Resolved(vec![Target::Module(module)]);
        };
        if path.is_external {
            return Resolution::External;
        }
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(0)],
            "self" => vec![Target::Module(module)],
            "super" => {
                let mut parent = self.tree.modules[module].parent;
                while let (Some(index), Some(("super", after))) = (
                    parent,
                    rest.split_first()
                        .map(|(name, after)| (name.as_str(), after)),
                ) {
                    parent = self.tree.modules[index].parent;
                    rest = after;
                }
                parent.map(Target::Module).into_iter().collect()
            }
            name => {
                let targets = self.look_up(module, name, pending);
                if targets.is_empty() {
                    return Resolution::External;
                }
                targets
            }
        };
        for name in rest {
            // A segment after an item is a variant or an associated item.
            if targets
                .iter()
                .any(|target| matches!(target, Target::Item(..)))
            {
                targets.retain(|target| matches!(target, Target::Item(..)));
                break;
            }
            targets = targets
                .iter()
                .flat_map(|target| match target {
                    Target::Module(module) => self.look_up_member(*module, name, pending),
                    Target::Item(..) | Target::External => vec![target.clone()],
                })
                .collect();
        }
        if targets.is_empty() {
            return Resolution::Unresolved;
        }
        targets.retain(|target| *target != Target::External);
        if targets.is_empty() {
            Resolution::External
        } else {
            Resolution::Resolved(targets)
        }
    }

    /// Resolves `name` in `module`, as the path `module::name` does.
    fn look_up_member(
        &self,
        module: ModuleIndex,
        name: &str,
        pending: &mut Pending,
    ) -> Vec<Target> {
        let targets = self.look_up(module, name, pending);
        let module_data = &self.tree.modules[module];
        if targets.is_empty() && module_data.calls_item_macro {
            return vec![Target::Item(module_data.file, name.to_owned())];
        }
        targets
    }

    /// Resolves `name` among the definitions and imports of `module`.
    fn look_up(&self, module: ModuleIndex, name: &str, pending: &mut Pending) -> Vec<Target> {
        let key = (module, name.to_owned());
        if pending.contains(&key) {
            return Vec::new();
        }
        pending.push(key);
        let module_data = &self.tree.modules[module];
        let mut targets = Vec::new();
        for definition in module_data.names.get(name).into_iter().flatten() {
            match definition {
                Definition::Module(child) => targets.push(Target::Module(*child)),
                Definition::Item => targets.push(Target::Item(module_data.file, name.to_owned())),
                Definition::Import(path) => match self.find_pending(module, path, pending) {
                    Resolution::Resolved(resolved) => targets.extend(resolved),
                    Resolution::External => targets.push(Target::External),
                    Resolution::Unresolved => {}
                },
            }
        }
        if targets.is_empty() {
            let mut has_external_glob = false;
            for glob in &module_data.globs {
                match self.find_pending(module, glob, pending) {
                    Resolution::Resolved(resolved) => {
                        for target in resolved {
                            if let Target::Module(module) = target {
                                targets.extend(self.look_up(module, name, pending));
                            }
                        }
                    }
                    Resolution::External => has_external_glob = true,
                    Resolution::Unresolved => {}
                }
            }
            if targets.is_empty() && has_external_glob {
                targets.push(Target::External);
            }
        }
        pending.pop();
        targets
    }
}
