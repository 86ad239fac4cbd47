//! A generator of modules in which most instructions are run and most results are used: expressions over what is on the stack,
//! branches that carry values, loops that end, handlers that catch. wasm-smith's reach further into the language, but trap early,
//! and drop most of what they compute.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ElementSection, Elements, EntityType, FunctionSection,
    GlobalSection, GlobalType, ImportSection, MemorySection, MemoryType, Module, RefType, TableSection, TableType,
    TagSection, TagType, TypeSection, ValType,
};
use wasm_encoder::{Catch, DataCountSection, Encode, Function, HeapType, Instruction as I, TagKind};

use crate::runner::Random;
use crate::value::Type::{self, Any, Exn, Extern, F32, F64, Func, I32, I64, V128};
use crate::value::Value;

mod gc;

use gc::Shape;

/// Instructions that take operands and give one result: prefix, first and last opcode, operand types and result type (`i`, `l`, `f`,
/// `d`, `v`), number of the lanes that an immediate chooses from.
const PLAIN: &[(u8, u32, u32, &str, u8)] = &[
    (0, 0x45, 0x45, "ii", 0),
    (0, 0x46, 0x4f, "iii", 0),
    (0, 0x50, 0x50, "li", 0),
    (0, 0x51, 0x5a, "lli", 0),
    (0, 0x5b, 0x60, "ffi", 0),
    (0, 0x61, 0x66, "ddi", 0),
    (0, 0x67, 0x69, "ii", 0),
    (0, 0x6a, 0x78, "iii", 0),
    (0, 0x79, 0x7b, "ll", 0),
    (0, 0x7c, 0x8a, "lll", 0),
    (0, 0x8b, 0x91, "ff", 0),
    (0, 0x92, 0x98, "fff", 0),
    (0, 0x99, 0x9f, "dd", 0),
    (0, 0xa0, 0xa6, "ddd", 0),
    (0, 0xa7, 0xa7, "li", 0),
    (0, 0xa8, 0xa9, "fi", 0),
    (0, 0xaa, 0xab, "di", 0),
    (0, 0xac, 0xad, "il", 0),
    (0, 0xae, 0xaf, "fl", 0),
    (0, 0xb0, 0xb1, "dl", 0),
    (0, 0xb2, 0xb3, "if", 0),
    (0, 0xb4, 0xb5, "lf", 0),
    (0, 0xb6, 0xb6, "df", 0),
    (0, 0xb7, 0xb8, "id", 0),
    (0, 0xb9, 0xba, "ld", 0),
    (0, 0xbb, 0xbb, "fd", 0),
    (0, 0xbc, 0xbc, "fi", 0),
    (0, 0xbd, 0xbd, "dl", 0),
    (0, 0xbe, 0xbe, "if", 0),
    (0, 0xbf, 0xbf, "ld", 0),
    (0, 0xc0, 0xc1, "ii", 0),
    (0, 0xc2, 0xc4, "ll", 0),
    (0xfc, 0, 1, "fi", 0),
    (0xfc, 2, 3, "di", 0),
    (0xfc, 4, 5, "fl", 0),
    (0xfc, 6, 7, "dl", 0),
    (0xfd, 0x0e, 0x0e, "vvv", 0),
    (0xfd, 0x0f, 0x11, "iv", 0),
    (0xfd, 0x12, 0x12, "lv", 0),
    (0xfd, 0x13, 0x13, "fv", 0),
    (0xfd, 0x14, 0x14, "dv", 0),
    (0xfd, 0x15, 0x16, "vi", 16),
    (0xfd, 0x17, 0x17, "viv", 16),
    (0xfd, 0x18, 0x19, "vi", 8),
    (0xfd, 0x1a, 0x1a, "viv", 8),
    (0xfd, 0x1b, 0x1b, "vi", 4),
    (0xfd, 0x1c, 0x1c, "viv", 4),
    (0xfd, 0x1d, 0x1d, "vl", 2),
    (0xfd, 0x1e, 0x1e, "vlv", 2),
    (0xfd, 0x1f, 0x1f, "vf", 4),
    (0xfd, 0x20, 0x20, "vfv", 4),
    (0xfd, 0x21, 0x21, "vd", 2),
    (0xfd, 0x22, 0x22, "vdv", 2),
    (0xfd, 0x23, 0x4c, "vvv", 0),
    (0xfd, 0x4d, 0x4d, "vv", 0),
    (0xfd, 0x4e, 0x51, "vvv", 0),
    (0xfd, 0x52, 0x52, "vvvv", 0),
    (0xfd, 0x53, 0x53, "vi", 0),
    (0xfd, 0x5e, 0x62, "vv", 0),
    (0xfd, 0x63, 0x64, "vi", 0),
    (0xfd, 0x65, 0x66, "vvv", 0),
    (0xfd, 0x67, 0x6a, "vv", 0),
    (0xfd, 0x6b, 0x6d, "viv", 0),
    (0xfd, 0x6e, 0x73, "vvv", 0),
    (0xfd, 0x74, 0x75, "vv", 0),
    (0xfd, 0x76, 0x79, "vvv", 0),
    (0xfd, 0x7a, 0x7a, "vv", 0),
    (0xfd, 0x7b, 0x7b, "vvv", 0),
    (0xfd, 0x7c, 0x81, "vv", 0),
    (0xfd, 0x82, 0x82, "vvv", 0),
    (0xfd, 0x83, 0x84, "vi", 0),
    (0xfd, 0x85, 0x86, "vvv", 0),
    (0xfd, 0x87, 0x8a, "vv", 0),
    (0xfd, 0x8b, 0x8d, "viv", 0),
    (0xfd, 0x8e, 0x93, "vvv", 0),
    (0xfd, 0x94, 0x94, "vv", 0),
    (0xfd, 0x95, 0x99, "vvv", 0),
    (0xfd, 0x9b, 0x9f, "vvv", 0),
    (0xfd, 0xa0, 0xa1, "vv", 0),
    (0xfd, 0xa3, 0xa4, "vi", 0),
    (0xfd, 0xa7, 0xaa, "vv", 0),
    (0xfd, 0xab, 0xad, "viv", 0),
    (0xfd, 0xae, 0xae, "vvv", 0),
    (0xfd, 0xb1, 0xb1, "vvv", 0),
    (0xfd, 0xb5, 0xba, "vvv", 0),
    (0xfd, 0xbc, 0xbf, "vvv", 0),
    (0xfd, 0xc0, 0xc1, "vv", 0),
    (0xfd, 0xc3, 0xc4, "vi", 0),
    (0xfd, 0xc7, 0xca, "vv", 0),
    (0xfd, 0xcb, 0xcd, "viv", 0),
    (0xfd, 0xce, 0xce, "vvv", 0),
    (0xfd, 0xd1, 0xd1, "vvv", 0),
    (0xfd, 0xd5, 0xdf, "vvv", 0),
    (0xfd, 0xe0, 0xe1, "vv", 0),
    (0xfd, 0xe3, 0xe3, "vv", 0),
    (0xfd, 0xe4, 0xeb, "vvv", 0),
    (0xfd, 0xec, 0xed, "vv", 0),
    (0xfd, 0xef, 0xef, "vv", 0),
    (0xfd, 0xf0, 0xf7, "vvv", 0),
    (0xfd, 0xf8, 0xff, "vv", 0),
    (0xfd, 0x100, 0x100, "vvv", 0),
    (0xfd, 0x101, 0x104, "vv", 0),
    (0xfd, 0x105, 0x10c, "vvvv", 0),
    (0xfd, 0x10d, 0x112, "vvv", 0),
    (0xfd, 0x113, 0x113, "vvvv", 0),
];

/// Loads: prefix, opcodes, what they give, the logarithm of the largest alignment, lanes (those also take a vector).
const LOADS: &[(u8, u32, u32, char, u32, u8)] = &[
    (0, 0x28, 0x28, 'i', 2, 0),
    (0, 0x29, 0x29, 'l', 3, 0),
    (0, 0x2a, 0x2a, 'f', 2, 0),
    (0, 0x2b, 0x2b, 'd', 3, 0),
    (0, 0x2c, 0x2d, 'i', 0, 0),
    (0, 0x2e, 0x2f, 'i', 1, 0),
    (0, 0x30, 0x31, 'l', 0, 0),
    (0, 0x32, 0x33, 'l', 1, 0),
    (0, 0x34, 0x35, 'l', 2, 0),
    (0xfd, 0x00, 0x00, 'v', 4, 0),
    (0xfd, 0x01, 0x06, 'v', 3, 0),
    (0xfd, 0x07, 0x07, 'v', 0, 0),
    (0xfd, 0x08, 0x08, 'v', 1, 0),
    (0xfd, 0x09, 0x09, 'v', 2, 0),
    (0xfd, 0x0a, 0x0a, 'v', 3, 0),
    (0xfd, 0x5c, 0x5c, 'v', 2, 0),
    (0xfd, 0x5d, 0x5d, 'v', 3, 0),
    (0xfd, 0x54, 0x54, 'v', 0, 16),
    (0xfd, 0x55, 0x55, 'v', 1, 8),
    (0xfd, 0x56, 0x56, 'v', 2, 4),
    (0xfd, 0x57, 0x57, 'v', 3, 2),
];

/// Stores, the same way.
const STORES: &[(u8, u32, u32, char, u32, u8)] = &[
    (0, 0x36, 0x36, 'i', 2, 0),
    (0, 0x37, 0x37, 'l', 3, 0),
    (0, 0x38, 0x38, 'f', 2, 0),
    (0, 0x39, 0x39, 'd', 3, 0),
    (0, 0x3a, 0x3a, 'i', 0, 0),
    (0, 0x3b, 0x3b, 'i', 1, 0),
    (0, 0x3c, 0x3c, 'l', 0, 0),
    (0, 0x3d, 0x3d, 'l', 1, 0),
    (0, 0x3e, 0x3e, 'l', 2, 0),
    (0xfd, 0x0b, 0x0b, 'v', 4, 0),
    (0xfd, 0x58, 0x58, 'v', 0, 16),
    (0xfd, 0x59, 0x59, 'v', 1, 8),
    (0xfd, 0x5a, 0x5a, 'v', 2, 4),
    (0xfd, 0x5b, 0x5b, 'v', 3, 2),
];

fn of_letter(letter: char) -> Type {
    match letter {
        'i' => I32,
        'l' => I64,
        'f' => F32,
        'd' => F64,
        _ => V128,
    }
}

fn encoded(ty: Type) -> ValType {
    match ty {
        I32 => ValType::I32,
        I64 => ValType::I64,
        F32 => ValType::F32,
        F64 => ValType::F64,
        V128 => ValType::V128,
        Func => ValType::FUNCREF,
        Extern => ValType::EXTERNREF,
        Exn => ValType::EXNREF,
        Any => ValType::Ref(RefType::ANYREF),
    }
}

fn heap(ty: Type) -> HeapType {
    match ty {
        Func => HeapType::FUNC,
        Extern => HeapType::EXTERN,
        Any => HeapType::ANY,
        _ => HeapType::Abstract { shared: false, ty: wasm_encoder::AbstractHeapType::Exn },
    }
}

/// Pages of a memory; addresses are mostly masked to the first.
const PAGES: u64 = 1;
const MAX_PAGES: u64 = 3;
const ELEMENTS: u64 = 16;
const SEGMENTS: u32 = 2;

type Signature = (Vec<Type>, Vec<Type>);

struct Generator {
    random: Random,
    types: Vec<Signature>,
    /// Structures and arrays; they come before the types of functions.
    shapes: Vec<Shape>,
    /// Types of values that the module uses: the fewer, the more often instructions fit together.
    values: Vec<Type>,
    /// Signatures of imported and own functions.
    funcs: Vec<Signature>,
    imported: usize,
    globals: Vec<Type>,
    tags: Vec<Vec<Type>>,
    tables: Vec<Type>,
    memories: u32,
    has_exceptions: bool,
    has_tail_calls: bool,
}

/// A module from a number.
pub fn module(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut values = vec![I32];
    for ty in [I64, F32, F64, V128, Func, Extern] {
        if random.next().is_multiple_of(2) {
            values.push(ty);
        }
    }
    let has_exceptions = !random.next().is_multiple_of(4);
    if has_exceptions {
        values.push(Exn);
    }
    if random.next().is_multiple_of(2) {
        values.push(Any);
    }
    let mut this = Generator {
        types: Vec::new(),
        shapes: Vec::new(),
        values,
        funcs: Vec::new(),
        imported: random.next() as usize % 4,
        globals: Vec::new(),
        tags: Vec::new(),
        tables: vec![Func],
        memories: 1 + u32::from(random.next().is_multiple_of(4)),
        has_exceptions,
        has_tail_calls: !random.next().is_multiple_of(4),
        random,
    };
    this.module()
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        (self.random.next() % n as u64) as usize
    }

    /// True once in so many times.
    fn once_in(&mut self, n: u64) -> bool {
        self.random.next().is_multiple_of(n)
    }

    fn some_type(&mut self) -> Type {
        let i = self.below(self.values.len());
        self.values[i]
    }

    fn some_types(&mut self, at_most: usize) -> Vec<Type> {
        (0..self.below(at_most + 1)).map(|_| self.some_type()).collect()
    }

    fn type_index(&mut self, params: &[Type], results: &[Type]) -> u32 {
        let found = self.types.iter().position(|(p, r)| p == params && r == results);
        found.unwrap_or_else(|| {
            self.types.push((params.to_vec(), results.to_vec()));
            self.types.len() - 1
        }) as u32
            + self.shapes.len() as u32
    }

    fn module(&mut self) -> Vec<u8> {
        if self.values.contains(&Any) {
            self.shapes = gc::shapes(self);
        }
        let own = 1 + self.below(4);
        for _ in 0..self.imported + own {
            let many = if self.once_in(8) { 12 } else { 4 };
            // Imports that are like an own function can be linked to that of another instance.
            let signature = if self.funcs.len() >= self.imported && self.imported > 0 && self.once_in(2) {
                let import = self.below(self.imported);
                self.funcs[import].clone()
            } else {
                (self.some_types(many), self.some_types(many - 1))
            };
            self.funcs.push(signature);
        }
        let values = self.values.clone();
        self.globals = values.iter().flat_map(|ty| [*ty, *ty]).collect();
        if self.has_exceptions {
            self.tags = (0..1 + self.below(3)).map(|_| self.some_types(3)).collect();
        }
        for ty in [Extern, Exn, Any] {
            if values.contains(&ty) && self.once_in(2) {
                self.tables.push(ty);
            }
        }
        let mut bodies = Vec::new();
        for index in self.imported..self.funcs.len() {
            bodies.push(Body::generate(self, index));
        }
        bodies.push(Body::driver(self));
        self.encode(&bodies)
    }

    fn encode(&mut self, bodies: &[Function]) -> Vec<u8> {
        let mut imports = ImportSection::new();
        let mut functions = FunctionSection::new();
        for i in 0..self.funcs.len() {
            let (params, results) = self.funcs[i].clone();
            let ty = self.type_index(&params, &results);
            if i < self.imported {
                imports.import("host", &format!("h{i}"), EntityType::Function(ty));
            } else {
                functions.function(ty);
            }
        }
        functions.function(self.type_index(&[I32], &[]));
        let mut tags = TagSection::new();
        for i in 0..self.tags.len() {
            let params = self.tags[i].clone();
            let func_type_idx = self.type_index(&params, &[]);
            let ty = TagType { kind: TagKind::Exception, func_type_idx };
            // An imported tag is the same one in each instance.
            if i == 0 {
                imports.import("host", "tag", EntityType::Tag(ty));
            } else {
                tags.tag(ty);
            }
        }
        let mut types = TypeSection::new();
        gc::encode(&self.shapes, &mut types);
        for (params, results) in &self.types {
            types.ty().function(params.iter().map(|ty| encoded(*ty)), results.iter().map(|ty| encoded(*ty)));
        }
        let mut tables = TableSection::new();
        for ty in &self.tables {
            let element_type = RefType { nullable: true, heap_type: heap(*ty) };
            tables.table(TableType {
                element_type,
                table64: false,
                minimum: ELEMENTS,
                maximum: Some(2 * ELEMENTS),
                shared: false,
            });
        }
        let mut memories = MemorySection::new();
        for _ in 0..self.memories {
            memories.memory(MemoryType {
                minimum: PAGES,
                maximum: Some(MAX_PAGES),
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
        }
        let mut globals = GlobalSection::new();
        for i in 0..self.globals.len() {
            let ty = self.globals[i];
            let n = self.random.next() as u32;
            let init = match Value::sample(ty, n) {
                Value::I32(bits) => ConstExpr::i32_const(bits as i32),
                Value::I64(bits) => ConstExpr::i64_const(bits as i64),
                Value::F32(bits) => ConstExpr::f32_const(f32::from_bits(bits).into()),
                Value::F64(bits) => ConstExpr::f64_const(f64::from_bits(bits).into()),
                Value::V128(bits) => ConstExpr::v128_const(bits as i128),
                Value::I31(number) => ConstExpr::extended([I::I32Const(number as i32), I::RefI31]),
                Value::Ref(_) | Value::Struct(_) | Value::Array(_) => ConstExpr::ref_null(heap(ty)),
            };
            globals.global(GlobalType { val_type: encoded(ty), mutable: true, shared: false }, &init);
        }
        let mut elements = ElementSection::new();
        let funcs: Vec<u32> = (0..ELEMENTS as u32).map(|i| i % self.funcs.len() as u32).collect();
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions((&funcs).into()));
        elements.passive(Elements::Functions((&funcs[..4]).into()));
        let mut code = CodeSection::new();
        for body in bodies {
            code.function(body);
        }
        let mut data = DataSection::new();
        let mut bytes = [0; 256];
        self.random.fill(&mut bytes);
        data.active(0, &ConstExpr::i32_const(64), bytes);
        data.passive(bytes[..64].iter().copied());
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
        if !tags.is_empty() {
            module.section(&tags);
        }
        module.section(&globals).section(&elements).section(&DataCountSection { count: SEGMENTS });
        module.section(&code).section(&data);
        module.finish()
    }
}

/// What a branch can go to.
struct Label {
    /// What a branch carries.
    types: Vec<Type>,
    /// Height of the stack that the block can't get at.
    base: usize,
    /// A loop's counter: branches to it count it down, so that it ends.
    counter: Option<u32>,
}

/// A function in the making.
struct Body<'g> {
    module: &'g mut Generator,
    index: usize,
    results: Vec<Type>,
    locals: Vec<Type>,
    params: usize,
    code: Vec<u8>,
    stack: Vec<Type>,
    labels: Vec<Label>,
    /// Instructions that may still be made.
    budget: usize,
}

/// Whether a block goes on after an instruction.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Never,
}

impl<'g> Body<'g> {
    fn generate(module: &'g mut Generator, index: usize) -> Function {
        let (params, results) = module.funcs[index].clone();
        let count = params.len();
        let mut locals = params;
        let more = if module.once_in(10) { 60 } else { 8 };
        for _ in 0..2 + module.below(more) {
            locals.push(module.some_type());
        }
        let budget = [8, 15, 30, 60, 120, 400][module.below(6)];
        let label = Label { types: results.clone(), base: 0, counter: None };
        let mut body = Body {
            module,
            index,
            results: results.clone(),
            locals,
            params: count,
            code: Vec::new(),
            stack: Vec::new(),
            labels: vec![label],
            budget,
        };
        if body.block_body(&results, 0) == Flow::On {
            body.keep_locals();
        }
        body.finish()
    }

    /// A function that calls the others many times, with other arguments each time, so that they change tiers.
    fn driver(module: &'g mut Generator) -> Function {
        let counter = 1;
        let mut body = Body {
            module,
            index: usize::MAX,
            results: Vec::new(),
            locals: vec![I32, I32],
            params: 1,
            code: Vec::new(),
            stack: Vec::new(),
            labels: vec![Label { types: Vec::new(), base: 0, counter: None }],
            budget: 0,
        };
        let rounds = [2, 20, 200][body.module.below(3)];
        body.emit(&I::I32Const(rounds));
        body.emit(&I::LocalSet(counter));
        body.emit(&I::Loop(BlockType::Empty));
        for func in body.module.imported..body.module.funcs.len() {
            let (params, results) = body.module.funcs[func].clone();
            for ty in params {
                body.emit(&I::LocalGet(counter));
                match ty {
                    I32 => {}
                    I64 => body.emit(&I::I64ExtendI32S),
                    F32 => body.emit(&I::F32ConvertI32S),
                    F64 => body.emit(&I::F64ConvertI32S),
                    V128 => body.emit(&I::I32x4Splat),
                    Any => body.emit(&I::RefI31),
                    Func | Extern | Exn => {
                        body.emit(&I::Drop);
                        body.emit(&I::RefNull(heap(ty)));
                    }
                }
            }
            body.emit(&I::Call(func as u32));
            for ty in results.iter().rev() {
                body.stack.push(*ty);
                body.consume();
            }
        }
        body.count_down(counter);
        body.emit(&I::BrIf(0));
        body.emit(&I::End);
        body.finish()
    }

    fn finish(mut self) -> Function {
        self.emit(&I::End);
        let mut function = Function::new_with_locals_types(self.locals[self.params..].iter().map(|ty| encoded(*ty)));
        function.raw(self.code);
        function
    }

    fn emit(&mut self, instruction: &I<'_>) {
        instruction.encode(&mut self.code);
    }

    fn opcode(&mut self, prefix: u8, opcode: u32) {
        if prefix == 0 {
            self.code.push(opcode as u8);
        } else {
            self.code.push(prefix);
            opcode.encode(&mut self.code);
        }
    }

    /// Height of the stack that the innermost block can't get at.
    fn base(&self) -> usize {
        self.labels.last().map_or(0, |label| label.base)
    }

    /// What the innermost block has on the stack.
    fn own(&self) -> &[Type] {
        &self.stack[self.base()..]
    }

    fn some_local(&mut self, ty: Type, is_set: bool) -> Option<u32> {
        let counters: Vec<u32> = self.labels.iter().filter_map(|label| label.counter).collect();
        let fits = |i: &u32| self.locals[*i as usize] == ty && !(is_set && counters.contains(i));
        let fitting: Vec<u32> = (0..self.locals.len() as u32).filter(fits).collect();
        (!fitting.is_empty()).then(|| fitting[self.module.below(fitting.len())])
    }

    fn some_global(&mut self, ty: Type) -> Option<u32> {
        let globals = &self.module.globals;
        let fitting: Vec<u32> = (0..globals.len() as u32).filter(|i| globals[*i as usize] == ty).collect();
        (!fitting.is_empty()).then(|| fitting[self.module.below(fitting.len())])
    }

    /// Puts a value of the type on the stack.
    fn push(&mut self, ty: Type) {
        self.stack.push(ty);
        let way = self.module.below(8);
        if way < 5
            && let Some(local) = self.some_local(ty, false)
        {
            return self.emit(&I::LocalGet(local));
        }
        if way < 6
            && let Some(global) = self.some_global(ty)
        {
            return self.emit(&I::GlobalGet(global));
        }
        if ty == Func && way < 7 {
            let func = self.module.below(self.module.funcs.len()) as u32;
            return self.emit(&I::RefFunc(func));
        }
        let n = self.module.random.next();
        let value = match (n % 4, Value::sample(ty, (n >> 32) as u32)) {
            (0, Value::I32(_)) => Value::I32((n >> 32) as u32 % 64),
            (0, Value::I64(_)) => Value::I64((n >> 32) % 64),
            (1, Value::F32(_)) => Value::F32(((n >> 32) as i16 as f32 / 8.0).to_bits()),
            (1, Value::F64(_)) => Value::F64(((n >> 32) as i16 as f64 / 8.0).to_bits()),
            (_, value) => value,
        };
        match value {
            Value::I32(bits) => self.emit(&I::I32Const(bits as i32)),
            Value::I64(bits) => self.emit(&I::I64Const(bits as i64)),
            Value::F32(bits) => self.emit(&I::F32Const(f32::from_bits(bits).into())),
            Value::F64(bits) => self.emit(&I::F64Const(f64::from_bits(bits).into())),
            Value::V128(bits) => self.emit(&I::V128Const(bits as i128)),
            Value::I31(number) => {
                self.emit(&I::I32Const(number as i32));
                self.emit(&I::RefI31);
            }
            Value::Ref(_) | Value::Struct(_) | Value::Array(_) => self.emit(&I::RefNull(heap(ty))),
        }
    }

    /// Has the top of the stack be of these types, by pushing all of them if it is not.
    fn need(&mut self, types: &[Type]) {
        if !self.own().ends_with(types) || (!types.is_empty() && self.module.once_in(4)) {
            for ty in types {
                self.push(*ty);
            }
        }
    }

    fn pop(&mut self, count: usize) {
        self.stack.truncate(self.stack.len() - count);
    }

    /// Takes the top of the stack away, mostly to where it is seen later.
    fn consume(&mut self) {
        let ty = self.stack.pop().expect("there is a value");
        let way = self.module.below(8);
        if way < 4
            && let Some(local) = self.some_local(ty, true)
        {
            return self.emit(&I::LocalSet(local));
        }
        if way < 7
            && let Some(global) = self.some_global(ty)
        {
            return self.emit(&I::GlobalSet(global));
        }
        self.emit(&I::Drop);
    }

    /// Some locals into globals, which are compared after the call.
    fn keep_locals(&mut self) {
        for local in 0..self.locals.len() as u32 {
            let ty = self.locals[local as usize];
            if self.module.once_in(3)
                && let Some(global) = self.some_global(ty)
            {
                self.emit(&I::LocalGet(local));
                self.emit(&I::GlobalSet(global));
            }
        }
    }

    /// Instructions of a block, and its results on the stack.
    fn block_body(&mut self, results: &[Type], depth: usize) -> Flow {
        let mut steps = 1 + self.module.below(if depth == 0 { 400 } else { 24 });
        while steps > 0 && self.budget > 0 {
            steps -= 1;
            self.budget -= 1;
            if self.step(depth) == Flow::Never {
                let base = self.base();
                self.stack.truncate(base);
                self.stack.extend(results);
                return Flow::Never;
            }
        }
        while !results.starts_with(self.own()) {
            self.consume();
        }
        for ty in &results[self.own().len()..] {
            self.push(*ty);
        }
        Flow::On
    }

    /// One instruction or a few that belong together.
    fn step(&mut self, depth: usize) -> Flow {
        if !self.module.shapes.is_empty() && self.module.once_in(5) {
            self.aggregate();
            return Flow::On;
        }
        match self.module.below(100) {
            0..18 => {
                let ty = self.module.some_type();
                self.push(ty);
            }
            18..50 => self.plain(),
            50..57 if !self.own().is_empty() => {
                let ty = *self.stack.last().expect("there is a value");
                match self.some_local(ty, true) {
                    Some(local) if self.module.once_in(2) => self.emit(&I::LocalTee(local)),
                    _ => self.consume(),
                }
            }
            57..64 => self.load(),
            64..68 => self.store(),
            68..71 => self.select(),
            71..79 => self.branch_if(),
            79..81 => self.branch_table(),
            81..88 if depth < 7 => self.nested(depth),
            88..90 if depth < 7 && self.module.has_exceptions => self.try_table(depth),
            90..91 if depth < 7 && self.module.has_exceptions => self.throw_if(),
            91..95 => self.call(),
            95..97 => self.bulk(),
            97..98 => self.table(),
            98..99 => self.reference(),
            99..100 if depth > 0 && self.module.once_in(3) => return self.leave(),
            _ => self.plain(),
        }
        Flow::On
    }

    /// An instruction that fits the top of the stack.
    fn plain(&mut self) {
        let Some(&top) = self.own().last() else {
            let ty = self.module.some_type();
            return self.push(ty);
        };
        if top == Type::I64 && self.module.once_in(12) {
            return self.wide();
        }
        for _ in 0..40 {
            let (prefix, first, last, signature, lanes) = PLAIN[self.module.below(PLAIN.len())];
            let mut operands: Vec<Type> = signature.chars().map(of_letter).collect();
            let result = operands.pop().expect("there is a result");
            if *operands.last().expect("there is an operand") != top || !self.module.values.contains(&result) {
                continue;
            }
            // The others are below, or are pushed: then the top is the first operand if it can be.
            if !self.own().ends_with(&operands) {
                if operands.iter().any(|ty| *ty != top) {
                    continue;
                }
                for _ in 1..operands.len() {
                    self.push(top);
                }
            }
            let opcode = first + self.module.below((last - first + 1) as usize) as u32;
            self.guard(prefix, opcode);
            self.opcode(prefix, opcode);
            if lanes > 0 {
                let lane = self.module.below(lanes.into()) as u8;
                self.code.push(lane);
            }
            self.pop(operands.len());
            self.stack.push(result);
            return;
        }
        self.consume();
    }

    /// Wide arithmetic.
    fn wide(&mut self) {
        let (opcode, operands) = [(19, 4), (20, 4), (21, 2), (22, 2)][self.module.below(4)];
        self.need(&[Type::I64; 4][..operands]);
        self.opcode(0xfc, opcode);
        self.pop(operands);
        self.stack.extend([Type::I64; 2]);
    }

    /// Has a division mostly not trap.
    fn guard(&mut self, prefix: u8, opcode: u32) {
        if prefix == 0 && !self.module.once_in(50) {
            match opcode {
                0x6d..=0x70 => {
                    self.emit(&I::I32Const(0x11));
                    self.emit(&I::I32Or);
                }
                0x7f..=0x82 => {
                    self.emit(&I::I64Const(0x11));
                    self.emit(&I::I64Or);
                }
                0xa8 | 0xa9 | 0xae | 0xaf => {
                    self.emit(&I::I32ReinterpretF32);
                    self.emit(&I::I32Const(0x4eff_ffff));
                    self.emit(&I::I32And);
                    self.emit(&I::F32ReinterpretI32);
                }
                0xaa | 0xab | 0xb0 | 0xb1 => {
                    self.emit(&I::I64ReinterpretF64);
                    self.emit(&I::I64Const(0x41cf_ffff_ffff_ffff));
                    self.emit(&I::I64And);
                    self.emit(&I::F64ReinterpretI64);
                }
                _ => {}
            }
        }
    }

    /// An address on the stack, mostly in bounds.
    fn address(&mut self) {
        self.need(&[I32]);
        if !self.module.once_in(60) {
            let mask = [0xffff, 0xfff0, 0xff, 0x7ff8][self.module.below(4)];
            self.emit(&I::I32Const(mask));
            self.emit(&I::I32And);
        }
    }

    fn memory_immediate(&mut self, align: u32, lanes: u8) {
        let align = self.module.below(align as usize + 1) as u32;
        let offset = [0, 0, 1, 8, 255, 65_528][self.module.below(6)];
        let memory = self.module.below(self.module.memories as usize) as u32;
        if memory == 0 {
            align.encode(&mut self.code);
        } else {
            (align | 0x40).encode(&mut self.code);
            memory.encode(&mut self.code);
        }
        offset.encode(&mut self.code);
        if lanes > 0 {
            let lane = self.module.below(lanes.into()) as u8;
            self.code.push(lane);
        }
    }

    fn load(&mut self) {
        let (prefix, first, last, letter, align, lanes) = LOADS[self.module.below(LOADS.len())];
        let ty = of_letter(letter);
        if !self.module.values.contains(&ty) {
            return;
        }
        self.address();
        if lanes > 0 {
            self.push(ty);
            self.pop(1);
        }
        let opcode = first + self.module.below((last - first + 1) as usize) as u32;
        self.opcode(prefix, opcode);
        self.memory_immediate(align, lanes);
        self.pop(1);
        self.stack.push(ty);
    }

    fn store(&mut self) {
        let (prefix, first, _, letter, align, lanes) = STORES[self.module.below(STORES.len())];
        let ty = of_letter(letter);
        if !self.module.values.contains(&ty) {
            return;
        }
        let top = self.own().last() == Some(&ty);
        match self.some_local(ty, true) {
            // What is there, by way of a local.
            Some(local) if top => {
                self.emit(&I::LocalSet(local));
                self.pop(1);
                self.address();
                self.emit(&I::LocalGet(local));
                self.stack.push(ty);
            }
            _ => {
                self.address();
                self.push(ty);
            }
        }
        self.opcode(prefix, first);
        self.memory_immediate(align, lanes);
        self.pop(2);
    }

    fn select(&mut self) {
        let ty = self.own().last().copied().unwrap_or(I32);
        self.need(&[ty, ty]);
        self.condition();
        self.pop(2);
        self.stack.push(ty);
        match ty {
            Func | Extern | Exn | Any => self.emit(&I::TypedSelect(encoded(ty))),
            _ => self.emit(&I::Select),
        }
    }

    /// An `i32` on the machine's stack that is not on this one's.
    fn condition(&mut self) {
        match self.module.below(6) {
            0 => {
                self.push(I32);
                self.emit(&I::I32Const(1));
                self.emit(&I::I32And);
            }
            1 if self.module.values.contains(&F64) => {
                self.push(F64);
                self.push(F64);
                self.pop(1);
                self.emit(&I::F64Lt);
            }
            2 => {
                self.push(I32);
                self.push(I32);
                self.pop(1);
                self.emit(&I::I32LtU);
            }
            _ => self.push(I32),
        }
        self.pop(1);
    }

    fn count_down(&mut self, counter: u32) {
        self.emit(&I::LocalGet(counter));
        self.emit(&I::I32Const(1));
        self.emit(&I::I32Sub);
        self.emit(&I::LocalTee(counter));
    }

    /// A label, rather one whose values are on the stack.
    fn some_label(&mut self) -> (u32, Vec<Type>, Option<u32>) {
        let mut depth = 0;
        for _ in 0..6 {
            depth = self.module.below(self.labels.len());
            let label = &self.labels[self.labels.len() - 1 - depth];
            if !label.types.is_empty() && self.own().ends_with(&label.types) {
                break;
            }
        }
        let label = &self.labels[self.labels.len() - 1 - depth];
        (depth as u32, label.types.clone(), label.counter)
    }

    fn branch_if(&mut self) {
        let (depth, types, counter) = self.some_label();
        self.need(&types);
        match counter {
            Some(counter) => self.count_down(counter),
            None => self.condition(),
        }
        self.emit(&I::BrIf(depth));
        // Uses of what was carried are where a value has to be in two places.
        if self.module.once_in(2) {
            self.plain();
        }
    }

    fn branch_table(&mut self) {
        // In a block of its own: what follows a table is never reached otherwise.
        let (_, types, counter) = self.some_label();
        if counter.is_some() {
            return;
        }
        let same = |i: &u32| {
            let label = &self.labels[self.labels.len() - 1 - *i as usize];
            label.types == types && label.counter.is_none()
        };
        let fitting: Vec<u32> = (0..self.labels.len() as u32).filter(same).collect();
        let block = self.block_type(&[], &types);
        self.emit(&I::Block(block));
        for ty in &types {
            self.push(*ty);
        }
        self.condition();
        let mut targets = Vec::new();
        for _ in 0..self.module.below(5) {
            let target = 1 + fitting[self.module.below(fitting.len())];
            targets.push(if self.module.once_in(2) { 0 } else { target });
        }
        self.emit(&I::BrTable(targets.as_slice().into(), 0));
        self.emit(&I::End);
    }

    fn block_type(&mut self, params: &[Type], results: &[Type]) -> BlockType {
        match (params, results) {
            ([], []) => BlockType::Empty,
            ([], [one]) => BlockType::Result(encoded(*one)),
            _ => BlockType::FunctionType(self.module.type_index(params, results)),
        }
    }

    /// A block, a loop or an `if`, with parameters from the stack.
    fn nested(&mut self, depth: usize) {
        let count = self.module.below(3).min(self.own().len());
        let kind = self.module.below(4);
        let params = self.own()[self.own().len() - count..].to_vec();
        let results = self.module.some_types(2);
        let mut counter = None;
        match kind {
            0 | 1 => {
                let ty = self.block_type(&params, &results);
                self.emit(&I::Block(ty));
            }
            2 => {
                let local = self.locals.len() as u32;
                self.locals.push(I32);
                counter = Some(local);
                let rounds = [1, 3, 10, 40][self.module.below(4)] >> (depth / 2);
                self.emit(&I::I32Const(rounds + 1));
                self.emit(&I::LocalSet(local));
                let ty = self.block_type(&params, &results);
                self.emit(&I::Loop(ty));
            }
            _ => {
                self.condition();
                let ty = self.block_type(&params, &results);
                self.emit(&I::If(ty));
            }
        }
        let base = self.stack.len() - count;
        let types = if counter.is_some() { params.clone() } else { results.clone() };
        self.labels.push(Label { types, base, counter });
        let flow = self.block_body(&results, depth + 1);
        if let (Some(counter), Flow::On) = (counter, flow) {
            // The loop's way back, with its parameters made anew above its results.
            for ty in &params {
                self.push(*ty);
            }
            self.count_down(counter);
            self.emit(&I::BrIf(0));
            for _ in &params {
                self.consume();
            }
        }
        if kind == 3 {
            self.emit(&I::Else);
            self.stack.truncate(base);
            self.stack.extend(&params);
            let _ = self.block_body(&results, depth + 1);
        }
        self.labels.pop();
        self.emit(&I::End);
        self.stack.truncate(base);
        self.stack.extend(results);
    }

    /// A body whose exceptions are caught behind it, with the values that it would have given.
    fn try_table(&mut self, depth: usize) {
        let tag = self.module.below(self.module.tags.len());
        let with_ref = self.module.once_in(2);
        let all = self.module.once_in(3);
        let mut results = if all { Vec::new() } else { self.module.tags[tag].clone() };
        if with_ref {
            results.push(Exn);
        }
        let catch = match (all, with_ref) {
            (false, false) => Catch::One { tag: tag as u32, label: 0 },
            (false, true) => Catch::OneRef { tag: tag as u32, label: 0 },
            (true, false) => Catch::All { label: 0 },
            (true, true) => Catch::AllRef { label: 0 },
        };
        let ty = self.block_type(&[], &results);
        self.emit(&I::Block(ty));
        let base = self.stack.len();
        self.labels.push(Label { types: results.clone(), base, counter: None });
        self.emit(&I::TryTable(ty, [catch].as_slice().into()));
        self.labels.push(Label { types: results.clone(), base, counter: None });
        let _ = self.block_body(&results, depth + 1);
        self.labels.pop();
        self.emit(&I::End);
        self.labels.pop();
        self.emit(&I::End);
        self.stack.truncate(base);
        self.stack.extend(results);
    }

    /// A throw, or one again, on a condition.
    fn throw_if(&mut self) {
        let before = self.stack.len();
        if self.module.once_in(3)
            && let Some(local) = self.some_local(Exn, false)
        {
            if self.module.once_in(8) {
                self.condition();
            } else {
                self.emit(&I::LocalGet(local));
                self.emit(&I::RefIsNull);
                self.emit(&I::I32Eqz);
            }
            self.emit(&I::If(BlockType::Empty));
            self.emit(&I::LocalGet(local));
            self.emit(&I::ThrowRef);
        } else {
            self.condition();
            self.emit(&I::If(BlockType::Empty));
            let tag = self.module.below(self.module.tags.len());
            for ty in self.module.tags[tag].clone() {
                self.push(ty);
            }
            self.emit(&I::Throw(tag as u32));
        }
        self.emit(&I::End);
        self.stack.truncate(before);
    }

    /// A call, mostly of a function that comes before.
    fn call(&mut self) {
        let count = self.module.funcs.len();
        let below = if self.module.once_in(20) { count } else { self.index.min(count) };
        if below == 0 {
            return;
        }
        let func = self.module.below(below);
        let (params, results) = self.module.funcs[func].clone();
        self.need(&params);
        if self.module.once_in(3) {
            let place = func as i32 + if self.module.once_in(30) { 1 } else { 0 };
            self.emit(&I::I32Const(place));
            let type_index = self.module.type_index(&params, &results);
            self.emit(&I::CallIndirect { type_index, table_index: 0 });
        } else {
            self.emit(&I::Call(func as u32));
        }
        self.pop(params.len());
        self.stack.extend(results);
    }

    fn bulk(&mut self) {
        let memories = self.module.memories as usize;
        let (mem, src_mem) = (self.module.below(memories) as u32, self.module.below(memories) as u32);
        let length = [0, 1, 7, 64, 300][self.module.below(5)];
        let way = self.module.below(6);
        if way == 4 {
            self.emit(&I::MemorySize(mem));
            return self.stack.push(I32);
        }
        if way == 5 {
            let pages = [0, 1, 5][self.module.below(3)];
            self.emit(&I::I32Const(pages));
            self.emit(&I::MemoryGrow(mem));
            return self.stack.push(I32);
        }
        self.address();
        self.pop(1);
        match way {
            0 => {
                self.push(I32);
                self.pop(1);
                self.emit(&I::I32Const(length));
                self.emit(&I::MemoryFill(mem));
            }
            1 | 2 => {
                self.push(I32);
                self.emit(&I::I32Const(0xffff));
                self.emit(&I::I32And);
                self.pop(1);
                self.emit(&I::I32Const(length));
                self.emit(&I::MemoryCopy { src_mem, dst_mem: mem });
            }
            _ => {
                self.emit(&I::I32Const(length.min(8)));
                self.emit(&I::I32Const(length.min(40)));
                self.emit(&I::MemoryInit { mem, data_index: 1 });
            }
        }
    }

    fn table(&mut self) {
        let table = self.module.below(self.module.tables.len());
        let ty = self.module.tables[table];
        let (table, place) = (table as u32, self.module.below(ELEMENTS as usize + 1) as i32);
        match self.module.below(8) {
            0 | 1 if self.module.values.contains(&ty) => {
                self.emit(&I::I32Const(place));
                self.emit(&I::TableGet(table));
                self.stack.push(ty);
            }
            2 => {
                self.emit(&I::I32Const(place));
                self.push(ty);
                self.pop(1);
                self.emit(&I::TableSet(table));
            }
            3 => {
                self.push(ty);
                self.pop(1);
                self.emit(&I::I32Const(place % 3));
                self.emit(&I::TableGrow(table));
                self.stack.push(I32);
            }
            4 => {
                self.emit(&I::I32Const(place));
                self.push(ty);
                self.pop(1);
                self.emit(&I::I32Const(place % 4));
                self.emit(&I::TableFill(table));
            }
            5 => {
                for n in [place, place / 2, place % 5] {
                    self.emit(&I::I32Const(n));
                }
                self.emit(&I::TableCopy { src_table: table, dst_table: table });
            }
            6 if ty == Func => {
                for n in [place, place % 2, place % 3] {
                    self.emit(&I::I32Const(n));
                }
                self.emit(&I::TableInit { elem_index: 1, table });
            }
            _ => {
                self.emit(&I::TableSize(table));
                self.stack.push(I32);
            }
        }
    }

    fn reference(&mut self) {
        match self.own().last() {
            Some(Func | Extern | Exn | Any) => {
                self.emit(&I::RefIsNull);
                self.pop(1);
                self.stack.push(I32);
            }
            _ => self.emit(&I::Nop),
        }
    }

    /// An instruction after which the block does not go on.
    fn leave(&mut self) -> Flow {
        match self.module.below(6) {
            0 => {
                let results = self.results.clone();
                self.need(&results);
                self.emit(&I::Return);
            }
            1 if self.module.has_tail_calls => {
                let below = self.index.min(self.module.funcs.len());
                let same = |i: &usize| self.module.funcs[*i].1 == self.results;
                let fitting: Vec<usize> = (0..below).filter(same).collect();
                if fitting.is_empty() {
                    return Flow::On;
                }
                let func = fitting[self.module.below(fitting.len())];
                let (params, results) = self.module.funcs[func].clone();
                self.need(&params);
                if self.module.once_in(2) {
                    self.emit(&I::ReturnCall(func as u32));
                } else {
                    self.emit(&I::I32Const(func as i32));
                    let type_index = self.module.type_index(&params, &results);
                    self.emit(&I::ReturnCallIndirect { type_index, table_index: 0 });
                }
            }
            2 if self.module.once_in(10) => self.emit(&I::Unreachable),
            _ => {
                let (depth, types, counter) = self.some_label();
                if counter.is_some() {
                    return Flow::On;
                }
                self.need(&types);
                self.emit(&I::Br(depth));
            }
        }
        Flow::Never
    }
}
