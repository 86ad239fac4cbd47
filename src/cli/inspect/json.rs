//! A survey as one JSON object, for programs. README.md lists the fields; names and meanings stay as they are, fields may be
//! added.

use serde_json::{Value, json};
use wasmparser::ValType;

use super::features;
use super::survey::Survey;
use crate::Error;
use crate::cli::output;

/// The object, in one line; `error` says why this version does not run the module.
pub(super) fn text(file: &str, survey: &Survey<'_>, error: Option<&Error>) -> String {
    let code: u64 = survey.bodies.iter().sum();
    let mut out = String::from("{");
    let mut field = |name: &str, value: &str| {
        let comma = if out.len() > 1 { "," } else { "" };
        out.push_str(&format!("{comma}\"{name}\":{value}"));
    };
    let mut value = |name: &str, value: Value| field(name, &output::json(&value));
    value("file", file.into());
    value("bytes", survey.size.into());
    value("supported", error.is_none().into());
    value("error", error.map(ToString::to_string).into());
    value("start", survey.start.into());
    value("code_bytes", code.into());
    value("data", json!({ "segments": survey.data_segments, "bytes": survey.data_bytes }));
    value("elements", json!({ "segments": survey.element_segments, "items": survey.elements }));
    let proposals = survey.features.0.iter().map(|(proposal, uses)| {
        let uses: Vec<_> = uses.iter().map(|by| features::describe(by)).collect();
        ((*proposal).to_string(), uses.into())
    });
    value("features", Value::Object(proposals.collect()));
    let producers = survey.producers.iter().map(|(field, values)| ((*field).to_string(), values.clone().into()));
    value("producers", Value::Object(producers.collect()));
    // Item by item: a module may have a million of each.
    field(
        "imports",
        &array(
            survey
                .imports
                .iter()
                .map(|(module, name, ty)| json!({ "module": module, "name": name, "kind": kind(ty), "type": ty })),
        ),
    );
    field(
        "exports",
        &array(survey.exports.iter().map(|(name, ty)| json!({ "name": name, "kind": kind(ty), "type": ty }))),
    );
    field(
        "functions",
        &array((0..).zip(&survey.funcs).map(|(index, ty)| {
            let bytes = (index as usize).checked_sub(survey.imported_funcs).and_then(|at| survey.bodies.get(at));
            json!({
                "index": index,
                "name": survey.func_names.get(&index),
                "type": survey.func_type("func", *ty),
                "imported": bytes.is_none(),
                "code_bytes": bytes,
            })
        })),
    );
    field(
        "memories",
        &array(survey.memories.iter().enumerate().map(|(index, ty)| {
            json!({
                "index": index,
                "imported": index < survey.imported_memories,
                "minimum_pages": ty.initial,
                "maximum_pages": ty.maximum,
                "page_bytes": 1u64 << ty.page_size_log2.unwrap_or(16).min(63),
                "is_64_bit": ty.memory64,
                "shared": ty.shared,
            })
        })),
    );
    field(
        "tables",
        &array(survey.tables.iter().enumerate().map(|(index, ty)| {
            json!({
                "index": index,
                "imported": index < survey.imported_tables,
                "element": ValType::Ref(ty.element_type).to_string(),
                "minimum": ty.initial,
                "maximum": ty.maximum,
                "is_64_bit": ty.table64,
                "shared": ty.shared,
            })
        })),
    );
    field(
        "globals",
        &array(
            survey
                .global_types
                .iter()
                .enumerate()
                .map(|(index, ty)| json!({ "index": index, "imported": index < survey.imported_globals, "type": ty })),
        ),
    );
    field("tags", &array(survey.tags.iter().enumerate().map(|(index, ty)| {
        json!({ "index": index, "imported": index < survey.imported_tags, "type": survey.func_type("tag", *ty) })
    })));
    field(
        "sections",
        &array(
            survey.sections.iter().map(|(name, bytes, items)| json!({ "name": name, "bytes": bytes, "items": items })),
        ),
    );
    field(
        "custom_sections",
        &array(survey.customs.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes }))),
    );
    out.push_str("}\n");
    out
}

fn array(items: impl Iterator<Item = Value>) -> String {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&output::json(&item));
    }
    out.push(']');
    out
}

/// The kind of an import or export, which its type in the text format begins with.
fn kind(ty: &str) -> &str {
    ty.trim_start_matches('(').split([' ', ')']).next().unwrap_or_default()
}
