//! Macro that declares the sets of words in [`crate::names`].

/// Declares newtypes of text with a constant for each name that this version writes.
macro_rules! names {
    ($(
        $(#[$meta:meta])*
        $type:ident { $( $(#[$doc:meta])* $constant:ident = $name:literal, )+ }
    )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Cow<'static, str>);

        impl $type {
            $(
                $(#[$doc])*
                pub const $constant: Self = Self(Cow::Borrowed($name));
            )+

            /// Names that this version writes.
            pub const NAMES: &[&str] = &[$($name),+];

            /// Returns the name.
            pub fn name(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": Self::NAMES })
            }
        }
    )+ };
}
pub(crate) use names;
