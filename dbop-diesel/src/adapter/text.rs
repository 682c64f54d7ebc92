//! What the machine asks for as text.

/// The answer to a query of the machine: one text, or nothing.
#[derive(Clone, Debug, diesel::QueryableByName)]
pub struct Text {
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    s: Option<String>,
}

impl From<Text> for Option<String> {
    fn from(text: Text) -> Self {
        text.s
    }
}
