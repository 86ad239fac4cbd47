//! DWARF made by hand, mostly such as no compiler makes it: what it takes is bounded, and the rest of a module has its symbols.

use super::demangle::Demangler;
use super::*;

const SUBPROGRAM: u64 = 0x2E;
const INLINED: u64 = 0x1D;
const COMPILE_UNIT: u64 = 0x11;

const NAME: u64 = 0x03;
const STMT_LIST: u64 = 0x10;
const LOW_PC: u64 = 0x11;
const HIGH_PC: u64 = 0x12;
const ORIGIN: u64 = 0x31;
const RANGES: u64 = 0x55;
const CALL_LINE: u64 = 0x59;

const ADDR: u64 = 0x01;
const DATA4: u64 = 0x06;
const STRING: u64 = 0x08;
const DATA1: u64 = 0x0B;
const REF_ADDR: u64 = 0x10;
const REF4: u64 = 0x13;
const SEC_OFFSET: u64 = 0x17;
const FLAG_PRESENT: u64 = 0x19;

/// Length of the code in all tests.
const CODE: u32 = 1 << 20;

fn leb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An abbreviation: its code, tag, whether it has children, and its attributes with their forms.
fn abbreviation(code: u64, tag: u64, children: bool, attributes: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = [leb(code), leb(tag), vec![children.into()]].concat();
    bytes.extend(attributes.iter().flat_map(|(name, form)| [leb(*name), leb(*form)].concat()));
    bytes.extend([0, 0]);
    bytes
}

/// The first abbreviation of every table here: a unit with the addresses of its code.
fn unit_abbreviation() -> Vec<u8> {
    abbreviation(1, COMPILE_UNIT, true, &[(LOW_PC, ADDR), (HIGH_PC, DATA4)])
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Bytes of a unit before its entries.
const UNIT_HEADER: u32 = 11;

/// A unit of version 4, with these entries.
fn unit(entries: &[u8]) -> Vec<u8> {
    let length = entries.len() as u32 + UNIT_HEADER - 4;
    [&words(&[length])[..], &[4, 0], &words(&[0]), &[4], entries].concat()
}

/// The root entry of a unit with the code from `low`, of `size` bytes.
fn root(low: u32, size: u32) -> Vec<u8> {
    [vec![1], words(&[low, size])].concat()
}

/// Sections with those that are given.
fn sections<'a>(given: &[(&str, &'a [u8])]) -> Sections<'a> {
    SECTIONS.map(|name| given.iter().find(|(given, _)| *given == name).map_or(&[][..], |(_, bytes)| bytes))
}

/// Looks up some addresses; the names found at the last.
#[track_caller]
fn names_at(sections: &Sections<'_>, addresses: &[u32]) -> Vec<Option<String>> {
    let symbolizer = Symbolizer::new(sections, CODE);
    let mut symbols = Vec::new();
    for address in addresses {
        symbols = symbolizer.symbols(sections, *address, &Demangler::default());
        assert!(symbols.len() <= 64, "{}", symbols.len());
    }
    symbols.iter().map(|symbol| symbol.name().map(String::from)).collect()
}

fn some(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| Some(name.to_string())).collect()
}

#[test]
fn functions_and_what_is_inlined_are_found() {
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, true, &[(NAME, STRING), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        abbreviation(3, INLINED, false, &[(ORIGIN, REF4), (LOW_PC, ADDR), (HIGH_PC, DATA4), (CALL_LINE, DATA1)]),
        abbreviation(4, SUBPROGRAM, false, &[(NAME, STRING)]),
        vec![0],
    ]
    .concat();
    let inner = root(100, 200);
    let origin = UNIT_HEADER + inner.len() as u32;
    let entries = [
        inner,
        b"\x04inner\0".to_vec(),
        [b"\x02outer\0".to_vec(), words(&[100, 50])].concat(),
        [vec![3], words(&[origin, 120, 10]), vec![7]].concat(),
        vec![0, 0],
    ]
    .concat();
    let info = unit(&entries);
    let sections = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]);
    assert_eq!(names_at(&sections, &[125]), some(&["inner", "outer"]));
    assert_eq!(names_at(&sections, &[130]), some(&["outer"]));
    assert_eq!(names_at(&sections, &[100]), some(&["outer"]));
    for outside in [0, 99, 150, 199, 300, CODE, u32::MAX] {
        assert_eq!(names_at(&sections, &[outside]), some(&[]), "{outside}");
    }
    let symbolizer = Symbolizer::new(&sections, CODE);
    let symbols = symbolizer.symbols(&sections, 125, &Demangler::default());
    assert_eq!((symbols[0].line(), symbols[1].line(), symbols[1].column()), (None, Some(7), None));
}

/// Functions that a linker has removed are left behind with addresses that are no code's, and are in the way of nothing.
#[test]
fn removed_functions_are_left_out() {
    let abbrev = [
        abbreviation(1, COMPILE_UNIT, true, &[(RANGES, SEC_OFFSET)]),
        abbreviation(2, SUBPROGRAM, false, &[(NAME, STRING), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ]
    .concat();
    let function = |name: &str, low: u32| [b"\x02", name.as_bytes(), b"\0", &words(&[low, 40])[..]].concat();
    let entries = [
        [vec![1], words(&[0])].concat(),
        function("removed", 0),
        function("kept", 16),
        function("beyond", u32::MAX - 100),
        vec![0],
    ]
    .concat();
    let (info, ranges) = (unit(&entries), words(&[0, 40, 16, 56, 0, 0]));
    let sections = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev), (".debug_ranges", &ranges)]);
    assert_eq!(names_at(&sections, &[20]), some(&["kept"]));
    assert_eq!(names_at(&sections, &[8]), some(&[]));
}

#[test]
fn names_that_lead_in_a_circle_end() {
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, true, &[(ORIGIN, REF4), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        abbreviation(3, SUBPROGRAM, true, &[(ORIGIN, REF_ADDR), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ]
    .concat();
    let root = root(100, 400);
    let first = UNIT_HEADER + root.len() as u32;
    let entries = [
        root,
        // To itself, to the next and back, and out of the section.
        [vec![2], words(&[first, 100, 50])].concat(),
        [vec![2], words(&[first + 26, 150, 50]), vec![2], words(&[first + 13, 200, 50])].concat(),
        [vec![3], words(&[u32::MAX - 1, 250, 50])].concat(),
        vec![0, 0, 0, 0, 0],
    ]
    .concat();
    let info = unit(&entries);
    let sections = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]);
    for address in [110, 160, 210, 260] {
        assert_eq!(names_at(&sections, &[address]), [None], "{address}");
    }
}

#[test]
fn deep_nesting_takes_no_stack() {
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, true, &[(LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        abbreviation(3, INLINED, true, &[(LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ]
    .concat();
    let level = [vec![3], words(&[100, 50])].concat();
    let entries = [root(100, 50), vec![2], words(&[100, 50]), level.repeat(500_000)].concat();
    let info = unit(&entries);
    let sections = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]);
    let work = || names_at(&sections, &[120]).len();
    let depth = std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).unwrap().join().unwrap()
    });
    assert_eq!(depth, 64);
}

/// Work that is quadratic in the size of the sections, if it is not bounded: each of these would take hours.
#[test]
fn tables_that_many_refer_to_are_not_read_for_ever() {
    // Units that share a long table of abbreviations.
    let unused: Vec<u8> =
        (2..300_000).flat_map(|code| abbreviation(code, SUBPROGRAM, false, &[(NAME, STRING)])).collect();
    let abbrev = [unit_abbreviation(), unused, vec![0]].concat();
    let info: Vec<u8> = (0..100_000).flat_map(|at| unit(&root(100 + at, 1))).collect();
    names_at(&sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]), &[100, 50_000, 100_000]);

    // Functions that share a long list of ranges.
    let abbrev = [unit_abbreviation(), abbreviation(2, SUBPROGRAM, false, &[(RANGES, SEC_OFFSET)]), vec![0]].concat();
    let entries = [root(1, CODE), [vec![2], words(&[0])].concat().repeat(500_000)].concat();
    let ranges: Vec<u32> = (1..500_000).flat_map(|at| [at * 2, at * 2 + 1]).chain([0, 0]).collect();
    let (info, ranges) = (unit(&entries), words(&ranges));
    names_at(&sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev), (".debug_ranges", &ranges)]), &[100]);

    // Entries with many attributes that take no bytes.
    let none = vec![(0x3F, FLAG_PRESENT); 500_000];
    let abbrev = [unit_abbreviation(), abbreviation(2, SUBPROGRAM, false, &none), vec![0]].concat();
    let info = unit(&[root(1, CODE), vec![2; 500_000]].concat());
    names_at(&sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]), &[100]);

    // The same for entries that names are looked for in.
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, false, &none),
        abbreviation(3, SUBPROGRAM, false, &[(ORIGIN, REF4), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ]
    .concat();
    let root_entry = root(1, CODE);
    let function = |at: u32| [vec![3], words(&[UNIT_HEADER + 9 + 200_000 * 13 + at, 100 + at, 1])].concat();
    let functions: Vec<u8> = (0..200_000).flat_map(function).collect();
    let info = unit(&[root_entry, functions, vec![2; 300_000]].concat());
    names_at(&sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]), &[100]);

    // The same long name, copied for each function.
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, false, &[(NAME, 0x0E), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ]
    .concat();
    let functions: Vec<u8> = (0..300_000).flat_map(|at| [vec![2], words(&[0, 100 + at, 1])].concat()).collect();
    let info = unit(&[root(1, CODE), functions].concat());
    let names = [vec![b'n'; 8 << 20], vec![0]].concat();
    let given = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev), (".debug_str", &names)]);
    let symbolizer = Symbolizer::new(&given, CODE);
    let symbols = symbolizer.symbols(&given, 100, &Demangler::default());
    assert_eq!(symbols[0].name().map(str::len), Some(4096));
    assert!(symbolizer.steps_left.load(Relaxed) < MAX_STEPS / 2, "names are counted");
}

/// A line program's header that declares files without end takes no memory for them.
#[test]
fn files_of_a_line_program_are_bounded() {
    let abbrev =
        [abbreviation(1, COMPILE_UNIT, false, &[(LOW_PC, ADDR), (HIGH_PC, DATA4), (STMT_LIST, SEC_OFFSET)]), vec![0]]
            .concat();
    let info = unit(&[vec![1], words(&[100, 50, 0])].concat());
    let line = |files: usize, declared: u64| {
        // Version 5: no folders, and each file is a string by a one-byte index.
        let tables = [vec![1, 1, 0x08, 0], vec![1, 1, 0x25], leb(declared), vec![0; files]].concat();
        let fixed = [1, 1, 1, 0xFB, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
        let header = words(&[(fixed.len() + tables.len()) as u32]);
        // One row for address 100, line 1, and the end.
        let program = [&[0, 5, 2][..], &words(&[100]), &[1, 2, 50, 0, 1, 1]].concat();
        let rest = [&[5, 0, 4, 0][..], &header, &fixed, &tables, &program].concat();
        [words(&[rest.len() as u32]), rest].concat()
    };
    let lines = |line: &[u8]| {
        let given = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev), (".debug_line", line)]);
        let symbols = Symbolizer::new(&given, CODE).symbols(&given, 120, &Demangler::default());
        symbols.first().and_then(FrameSymbol::line)
    };
    assert_eq!(lines(&line(1, 1)), Some(1));
    assert_eq!(lines(&line(900_000, 900_000)), Some(1));
    assert_eq!(lines(&line(1_100_000, 1_100_000)), None, "the header is too long");
    assert_eq!(lines(&line(1, 1 << 60)), None);
    assert_eq!(lines(&line(1000, u64::MAX)), None);
}

/// Files that a line program names and that are not there are counted as those that are.
#[test]
fn files_that_are_not_there_are_bounded() {
    let abbrev = [unit_abbreviation(), vec![0]].concat();
    let info = unit(&root(100, 50));
    let given = sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]);
    let symbolizer = Symbolizer::new(&given, CODE);
    symbolizer.bytes_left.store(1000, Relaxed);
    symbolizer.metered(&given, |dwarf, meter| {
        let header = dwarf.unit_header(gimli::DebugInfoOffset(0)).unwrap();
        let (unit, mut files) = (unit::open(dwarf, header).unwrap(), unit::Files::default());
        for file in 0..10_000 {
            assert_eq!(files.get(dwarf, &unit, file, meter), None);
        }
        assert!((1..=15).contains(&files.known.len()), "{}", files.known.len());
    });
}

/// Sections beyond the bounds are not read at all.
#[test]
fn sections_that_are_too_long_are_left_out() {
    let abbrev = [
        unit_abbreviation(),
        abbreviation(2, SUBPROGRAM, false, &[(NAME, STRING), (LOW_PC, ADDR), (HIGH_PC, DATA4)]),
        vec![0],
    ];
    let abbrev = abbrev.concat();
    let info = unit(&[root(100, 50), b"\x02f\0".to_vec(), words(&[100, 50])].concat());
    for (padding, found) in [(0, some(&["f"])), (MAX_ABBREV_BYTES, some(&[]))] {
        let abbrev = [abbrev.clone(), vec![0; padding]].concat();
        assert_eq!(names_at(&sections(&[(".debug_info", &info), (".debug_abbrev", &abbrev)]), &[110]), found);
    }
}
