//! What of a module can be reached from outside: the functions that exports, the start function, element segments and initial
//! values lead to, and the types that these and all declarations name.

use wasmparser::{
    BlockType, CompositeInnerType, CompositeType, ConstExpr, HeapType, Operator, RefType, Result, StorageType, SubType,
    ValType,
};

/// What leads where.
#[derive(Default)]
pub(super) struct Links {
    /// Pairs (function, what its body names), by function in ascending order.
    from_funcs: Vec<(u32, Named)>,
    /// Pairs (type, type that it names), by the first in ascending order.
    from_types: Vec<(u32, u32)>,
    /// What can be reached from outside in one step.
    roots: Vec<Named>,
    /// The function whose body is read.
    func: Option<u32>,
}

/// A function or type, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Func(u32),
    Type(u32),
}

/// The functions and types that can be reached, by index.
pub(super) struct Reach {
    funcs: Vec<bool>,
    types: Vec<bool>,
}

macro_rules! type_of_operand {
    ($see:ident type_index $value:ident) => {
        $see(*$value)
    };
    ($see:ident struct_type_index $value:ident) => {
        $see(*$value)
    };
    ($see:ident array_type_index $value:ident) => {
        $see(*$value)
    };
    ($see:ident array_type_index_dst $value:ident) => {
        $see(*$value)
    };
    ($see:ident array_type_index_src $value:ident) => {
        $see(*$value)
    };
    ($see:ident cont_type_index $value:ident) => {
        $see(*$value)
    };
    ($see:ident hty $value:ident) => {
        of_heap_type(*$value, $see)
    };
    ($see:ident from_ref_type $value:ident) => {
        of_heap_type($value.heap_type(), $see)
    };
    ($see:ident to_ref_type $value:ident) => {
        of_heap_type($value.heap_type(), $see)
    };
    ($see:ident blockty $value:ident) => {
        of_block_type(*$value, $see)
    };
    ($see:ident try_table $value:ident) => {
        of_block_type($value.ty, $see)
    };
    ($see:ident ty $value:ident) => {
        of_value_type(*$value, $see)
    };
    ($see:ident tys $value:ident) => {
        $value.iter().for_each(|ty| of_value_type(*ty, $see))
    };
    ($see:ident $other:ident $value:ident) => {
        let _ = $value;
    };
}

macro_rules! define_types_of_operator {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
        /// Calls `see` with the index of each type that an operator names.
        fn types_of_operator(operator: &Operator<'_>, see: &mut dyn FnMut(u32)) {
            match operator {
                $(Operator::$op $({ $($arg),* })? => {
                    $($(type_of_operand!(see $arg $arg);)*)?
                })*
                _ => {}
            }
        }
    };
}

wasmparser::for_each_operator!(define_types_of_operator);

fn of_heap_type(ty: HeapType, see: &mut dyn FnMut(u32)) {
    if let HeapType::Concrete(index) | HeapType::Exact(index) = ty
        && let Some(index) = index.as_module_index()
    {
        see(index);
    }
}

fn of_block_type(ty: BlockType, see: &mut dyn FnMut(u32)) {
    match ty {
        BlockType::Empty => {}
        BlockType::Type(ty) => of_value_type(ty, see),
        BlockType::FuncType(index) => see(index),
    }
}

fn of_value_type(ty: ValType, see: &mut dyn FnMut(u32)) {
    if let ValType::Ref(ty) = ty {
        of_heap_type(ty.heap_type(), see);
    }
}

fn of_storage_type(ty: StorageType, see: &mut dyn FnMut(u32)) {
    if let StorageType::Val(ty) = ty {
        of_value_type(ty, see);
    }
}

fn of_composite_type(ty: &CompositeType, see: &mut dyn FnMut(u32)) {
    match &ty.inner {
        CompositeInnerType::Func(ty) => ty.params().iter().chain(ty.results()).for_each(|ty| of_value_type(*ty, see)),
        CompositeInnerType::Array(ty) => of_storage_type(ty.0.element_type, see),
        CompositeInnerType::Struct(ty) => ty.fields.iter().for_each(|field| of_storage_type(field.element_type, see)),
        CompositeInnerType::Cont(ty) => ty.0.as_module_index().into_iter().for_each(see),
    }
}

impl Links {
    /// Notes what can be reached from outside.
    pub fn root(&mut self, named: Named) {
        self.roots.push(named);
    }

    /// Notes the types in the type of a declaration, which is there whether or not anything uses it.
    pub fn declaration(&mut self, ty: ValType) {
        of_value_type(ty, &mut |ty| self.roots.push(Named::Type(ty)));
    }

    pub fn reference(&mut self, ty: RefType) {
        self.declaration(ValType::Ref(ty));
    }

    /// Notes what a type names.
    pub fn ty(&mut self, index: u32, ty: &SubType) {
        let mut see = |named| self.from_types.push((index, named));
        of_composite_type(&ty.composite_type, &mut see);
        ty.supertype_idxs.iter().filter_map(|index| index.as_module_index()).for_each(see);
    }

    /// Begins the body of a function of a type.
    pub fn begin(&mut self, func: u32, ty: Option<u32>) {
        self.func = Some(func);
        self.from_funcs.extend(ty.map(|ty| (func, Named::Type(ty))));
    }

    /// Notes the type of a local of the body that was begun last.
    pub fn local(&mut self, ty: ValType) {
        let Some(func) = self.func else { return };
        of_value_type(ty, &mut |ty| self.from_funcs.push((func, Named::Type(ty))));
    }

    /// Notes what an operator of the body that was begun last names.
    pub fn operator(&mut self, operator: &Operator<'_>) {
        let Some(func) = self.func else { return };
        names_of_operator(operator, &mut |named| {
            if self.from_funcs.last() != Some(&(func, named)) {
                self.from_funcs.push((func, named));
            }
        });
    }

    /// Notes what a constant expression names, which is evaluated when the module is instantiated.
    pub fn constant(&mut self, expr: &ConstExpr<'_>) -> Result<()> {
        for operator in expr.get_operators_reader() {
            names_of_operator(&operator?, &mut |named| self.roots.push(named));
        }
        Ok(())
    }

    /// Follows the links, in a module with so many functions and types.
    pub fn follow(&self, funcs: usize, types: usize) -> Reach {
        let mut reach = Reach { funcs: vec![false; funcs], types: vec![false; types] };
        let mut waiting = self.roots.clone();
        while let Some(named) = waiting.pop() {
            let seen = match named {
                Named::Func(index) => reach.funcs.get_mut(index as usize),
                Named::Type(index) => reach.types.get_mut(index as usize),
            };
            if seen.is_none_or(|seen| std::mem::replace(seen, true)) {
                continue;
            }
            match named {
                Named::Func(index) => waiting.extend(of(&self.from_funcs, index)),
                Named::Type(index) => waiting.extend(of(&self.from_types, index).map(Named::Type)),
            }
        }
        reach
    }
}

/// What one index leads to.
fn of<T: Copy>(links: &[(u32, T)], index: u32) -> impl Iterator<Item = T> {
    let first = links.partition_point(|(from, _)| *from < index);
    links[first..].iter().take_while(move |(from, _)| *from == index).map(|(_, to)| *to)
}

fn names_of_operator(operator: &Operator<'_>, see: &mut dyn FnMut(Named)) {
    match operator {
        Operator::Call { function_index }
        | Operator::ReturnCall { function_index }
        | Operator::RefFunc { function_index } => see(Named::Func(*function_index)),
        _ => types_of_operator(operator, &mut |ty| see(Named::Type(ty))),
    }
}

impl Reach {
    pub fn has_func(&self, index: u32) -> bool {
        self.funcs.get(index as usize) == Some(&true)
    }

    pub fn has_type(&self, index: u32) -> bool {
        self.types.get(index as usize) == Some(&true)
    }
}
