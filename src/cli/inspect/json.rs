//! A survey as one JSON object, for programs. README.md lists the fields; names and meanings stay as they are, fields may be
//! added.

use std::io::{self, Write};

use serde_json::{Value, json};
use wasmparser::{CompositeInnerType, CompositeType, FieldType, ValType};

use super::features;
use super::need::Need;
use super::survey::Survey;
use crate::Error;
use crate::cli::output;

/// Writes the object, in one line; `error` says why this version does not run the module.
///
/// It is written item by item: a module may have a million of each, and each of its functions a type with a thousand
/// parameters.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(file: &str, survey: &Survey<'_>, error: Option<&Error>, out: &mut dyn Write) -> io::Result<()> {
    let code: u64 = survey.bodies.iter().sum();
    write!(out, "{{\"file\":{}", output::json(&file.into()))?;
    let mut value = |name: &str, value: Value| write!(out, ",\"{name}\":{}", output::json(&value));
    value("bytes", survey.size.into())?;
    value("supported", error.is_none().into())?;
    value("error", error.map(ToString::to_string).into())?;
    value("start", survey.start.into())?;
    value("code_bytes", code.into())?;
    value("data", json!({ "segments": survey.data_segments, "bytes": survey.data_bytes }))?;
    value("elements", json!({ "segments": survey.element_segments, "items": survey.elements }))?;
    let proposals = survey.features.uses.iter().map(|(proposal, uses)| {
        let uses: Vec<_> = uses.by.iter().map(|by| features::describe(by)).collect();
        ((*proposal).to_string(), uses.into())
    });
    value("features", Value::Object(proposals.collect()))?;
    let reach = survey.reach();
    let needs = survey.features.uses.iter().map(|(proposal, uses)| {
        let Need { funcs, reachable_funcs, dispensable } = Need::new(survey, &reach, proposal, uses);
        let need = json!({ "functions": funcs, "reachable_functions": reachable_funcs, "dispensable": dispensable });
        ((*proposal).to_string(), need)
    });
    value("needs", Value::Object(needs.collect()))?;
    let producers = survey.producers.iter().map(|(field, values)| ((*field).to_string(), values.clone().into()));
    value("producers", Value::Object(producers.collect()))?;
    array(
        out,
        "imports",
        survey
            .imports
            .iter()
            .map(|(module, name, ty)| json!({ "module": module, "name": name, "kind": kind(ty), "type": ty })),
    )?;
    array(
        out,
        "exports",
        survey.exports.iter().map(|(name, ty)| json!({ "name": name, "kind": kind(ty), "type": ty })),
    )?;
    array(
        out,
        "types",
        (0..).zip(&survey.types).map(|(index, ty)| {
            json!({ "index": index, "name": survey.type_names.get(&index), "type": Survey::type_text(ty), "fields": fields(survey, index, ty) })
        }),
    )?;
    array(
        out,
        "functions",
        (0..).zip(&survey.funcs).map(|(index, ty)| {
            let bytes = (index as usize).checked_sub(survey.imported_funcs).and_then(|at| survey.bodies.get(at));
            json!({
                "index": index,
                "name": survey.func_names.get(&index),
                "type": survey.func_type("func", *ty),
                "imported": bytes.is_none(),
                "code_bytes": bytes,
            })
        }),
    )?;
    array(
        out,
        "memories",
        survey.memories.iter().enumerate().map(|(index, ty)| {
            json!({
                "index": index,
                "name": survey.memory_names.get(&(index as u32)),
                "imported": index < survey.imported_memories,
                "minimum_pages": ty.initial,
                "maximum_pages": ty.maximum,
                "page_bytes": 1u64 << ty.page_size_log2.unwrap_or(16).min(63),
                "is_64_bit": ty.memory64,
                "shared": ty.shared,
            })
        }),
    )?;
    array(
        out,
        "tables",
        survey.tables.iter().enumerate().map(|(index, ty)| {
            json!({
                "index": index,
                "name": survey.table_names.get(&(index as u32)),
                "imported": index < survey.imported_tables,
                "element": ValType::Ref(ty.element_type).to_string(),
                "minimum": ty.initial,
                "maximum": ty.maximum,
                "is_64_bit": ty.table64,
                "shared": ty.shared,
            })
        }),
    )?;
    array(
        out,
        "globals",
        survey.global_types.iter().enumerate().map(|(index, ty)| {
            let name = survey.global_names.get(&(index as u32));
            json!({ "index": index, "name": name, "imported": index < survey.imported_globals, "type": ty })
        }),
    )?;
    array(
        out,
        "tags",
        survey.tags.iter().enumerate().map(|(index, ty)| {
            let (name, imported) = (survey.tag_names.get(&(index as u32)), index < survey.imported_tags);
            json!({ "index": index, "name": name, "imported": imported, "type": survey.func_type("tag", *ty) })
        }),
    )?;
    array(
        out,
        "sections",
        survey.sections.iter().map(|(name, bytes, items)| json!({ "name": name, "bytes": bytes, "items": items })),
    )?;
    array(out, "custom_sections", survey.customs.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })))?;
    out.write_all(b"}\n")
}

/// Names and types of a structure's fields.
fn fields(survey: &Survey<'_>, index: u32, ty: &CompositeType) -> Option<Vec<Value>> {
    let CompositeInnerType::Struct(ty) = &ty.inner else { return None };
    let names = survey.field_names.get(&index);
    let fields = (0u32..).zip(&ty.fields);
    let field = |(at, field): (u32, &FieldType)| {
        let name = names.and_then(|names| names.get(&at));
        json!({ "name": name, "type": field.element_type.to_string(), "mutable": field.mutable })
    };
    Some(fields.map(field).collect())
}

/// Writes a field with an array.
fn array(out: &mut dyn Write, name: &str, items: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    for (at, item) in items.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma}{}", output::json(&item))?;
    }
    out.write_all(b"]")
}

/// The kind of an import or export, which its type in the text format begins with.
fn kind(ty: &str) -> &str {
    ty.trim_start_matches('(').split([' ', ')']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that goes away after a megabyte.
    struct Head(usize);

    impl Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > 1 << 20 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// As one text, it would take four gigabytes.
    #[test]
    fn it_is_written_as_it_is_made() {
        let text = format!("(module (type (func (param {}))) (func (type 0)))", "i32 ".repeat(1000));
        let module = wast::parser::ParseBuffer::new(&text)
            .and_then(|buffer| wast::parser::parse::<wast::Wat<'_>>(&buffer)?.encode())
            .unwrap();
        let mut survey = Survey::new(&module).unwrap();
        // 400 GB of text, which no memory holds.
        survey.funcs = vec![0; 100_000_000];
        let error = write("m.wat", &survey, None, &mut Head(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
