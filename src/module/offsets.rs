//! The layout of an instance's context (`vm::context::VMContext`): byte offsets of what the module imports and defines.
//!
//! The offsets follow from the module alone, so they are the same for all its instances, and compiled code may contain
//! them.
//! The sizes of `vm`'s types are repeated here because `vm` is a higher room; it asserts them where it declares the
//! types.

/// Bytes of the header of a `VMContext`.
pub(crate) const VMCONTEXT_SIZE: u32 = if cfg!(target_pointer_width = "64") { 64 } else { 32 };

/// Bytes of a `VMFuncRef`.
pub(crate) const FUNC_REF_SIZE: u32 = if cfg!(target_pointer_width = "64") { 48 } else { 28 };

/// Alignment of a `VMFuncRef`.
pub(crate) const FUNC_REF_ALIGN: u32 = if cfg!(target_pointer_width = "64") { 8 } else { 4 };

/// Where an item of a module's index spaces is, relative to the VMContext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// The object itself lies at this byte offset.
    Inline(i32),
    /// A pointer to the object (imported or shared, unchanging while the instance lives) lies at this byte offset.
    Pointer(i32),
}

/// Byte offsets of a module's arrays in its VMContext. All fit `i32`: validation bounds every index space.
#[derive(Clone, Debug, Default)]
pub(crate) struct VMOffsets {
    pub imported_globals: u32,
    #[cfg_attr(not(jit), expect(dead_code, reason = "only compiled code is told which memories may be one"))]
    pub imported_memories: u32,
    pub imported_tables: u32,
    pub imported_funcs: u32,
    globals: u32,
    memories: Vec<Location>,
    tables: u32,
    global_imports: u32,
    table_imports: u32,
    func_imports: u32,
    tags: u32,
    sigs: u32,
    /// 0 if there are none.
    gc_descriptors: u32,
    func_refs: u32,
    size: u32,
}

/// How many items of each kind a module has: (imported, defined).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub globals: (u32, u32),
    pub memories: (u32, u32),
    pub tables: (u32, u32),
    pub funcs: (u32, u32),
    pub tags: (u32, u32),
    /// All types; they are not imported.
    pub types: u32,
    /// Whether there are types of structures or arrays.
    pub has_gc_types: bool,
}

impl VMOffsets {
    /// `is_shared` says of each memory whether it is shared: such a memory lies outside of the context, even if the module defines it.
    pub fn new(counts: Counts, is_shared: &[bool]) -> Self {
        let globals = VMCONTEXT_SIZE;
        let memories = globals + 16 * counts.globals.1;
        let tables = memories + 16 * counts.memories.1;
        let global_imports = tables + 16 * counts.tables.1;
        let memory_imports = global_imports + 8 * counts.globals.0;
        let (imported, mut pointers, mut objects) = (counts.memories.0 as usize, 0, 0);
        let places = is_shared.iter().enumerate().map(|(index, is_shared)| {
            let (base, size, next) = match index < imported || *is_shared {
                true => (memory_imports, 8, &mut pointers),
                false => (memories, 16, &mut objects),
            };
            let offset = (base + size * *next) as i32;
            *next += 1;
            if size == 8 { Location::Pointer(offset) } else { Location::Inline(offset) }
        });
        let memory_places: Vec<_> = places.collect();
        let table_imports = memory_imports + 8 * pointers;
        let func_imports = table_imports + 8 * counts.tables.0;
        let tags = func_imports + 8 * counts.funcs.0;
        let sigs = tags + 8 * (counts.tags.0 + counts.tags.1);
        let gc_descriptors = sigs + 4 * counts.types;
        let types_end = if counts.has_gc_types { gc_descriptors + 4 * counts.types } else { gc_descriptors };
        let func_refs = types_end.next_multiple_of(FUNC_REF_ALIGN);
        VMOffsets {
            imported_globals: counts.globals.0,
            imported_memories: counts.memories.0,
            imported_tables: counts.tables.0,
            imported_funcs: counts.funcs.0,
            globals,
            memories: memory_places,
            tables,
            global_imports,
            table_imports,
            func_imports,
            tags,
            sigs,
            gc_descriptors: if counts.has_gc_types { gc_descriptors } else { 0 },
            func_refs,
            size: func_refs + FUNC_REF_SIZE * counts.funcs.1,
        }
    }

    /// Bytes of the whole context.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    fn locate(index: u32, imported: u32, pointers: u32, objects: u32) -> Location {
        match index.checked_sub(imported) {
            None => Location::Pointer((pointers + 8 * index) as i32),
            Some(defined) => Location::Inline((objects + 16 * defined) as i32),
        }
    }

    /// The `VMGlobal` of a global index.
    pub fn global(&self, index: u32) -> Location {
        Self::locate(index, self.imported_globals, self.global_imports, self.globals)
    }

    /// The `VMMemory` of a memory index.
    pub fn memory(&self, index: u32) -> Location {
        self.memories[index as usize]
    }

    /// The `VMTable` of a table index.
    pub fn table(&self, index: u32) -> Location {
        Self::locate(index, self.imported_tables, self.table_imports, self.tables)
    }

    /// Offset of the `*mut VMFuncRef` of an imported function.
    pub fn imported_func(&self, index: u32) -> i32 {
        (self.func_imports + 8 * index) as i32
    }

    /// Offset of the `*const VMTag` of a tag, imported or defined.
    pub fn tag(&self, index: u32) -> i32 {
        (self.tags + 8 * index) as i32
    }

    /// Offset of the engine-wide number of a type, by its type index. Compiled code reads the number from here, so the
    /// same code works in any engine and process.
    pub fn sig(&self, ty: u32) -> i32 {
        (self.sigs + 4 * ty) as i32
    }

    /// Whether there are descriptors of types: the module has types of structures or arrays.
    pub fn has_gc_descriptors(&self) -> bool {
        self.gc_descriptors != 0
    }

    /// Offset of the `u32` that is the descriptor of a type in the store's heap, by its type index; 0 for functions. Only in a
    /// module that has descriptors.
    pub fn gc_descriptor(&self, ty: u32) -> i32 {
        (self.gc_descriptors + 4 * ty) as i32
    }

    /// Offset of the `VMFuncRef` of a defined function, by its defined index.
    pub fn func_ref(&self, defined: u32) -> i32 {
        (self.func_refs + FUNC_REF_SIZE * defined) as i32
    }
}
