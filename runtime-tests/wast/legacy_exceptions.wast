;; Exceptions in the legacy form, alone and together with `try_table`, under loops that compiled code enters.
(module
  (tag $i (param i32))
  (tag $pair (param i64 f64))
  (tag $empty)
  (tag $vector (param v128 i32))
  (func $throws (param $which i32)
    (block $none (block $v (block $e (block $p (block $n
      (br_table $n $p $e $v $none (local.get $which)))
      (throw $i (i32.const 7)))
      (throw $pair (i64.const 8) (f64.const 0.5)))
      (throw $empty))
      (throw $vector (v128.const i32x4 1 2 3 4) (i32.const 9))))

  ;; Each clause, and operands below the `try`, which it takes as parameters too.
  (func (export "clauses") (param $which i32) (result i32)
    (i32.const 1000)
    (i32.const 100)
    try (param i32) (result i32)
       (drop) (call $throws (local.get $which)) (i32.const 1)
      catch $i
      catch $pair (drop) (i32.wrap_i64)
      catch $vector (local.set $which) (i32x4.extract_lane 2) (i32.add (local.get $which))
      catch_all (i32.const 50) end
    (i32.add))

  ;; More results than a branch copies one by one, moved past the exception.
  (func (export "many") (param $which i32) (result i32 i64 i32 i64 i32 i64)
    try (result i32 i64 i32 i64 i32 i64)
      
        (call $throws (local.get $which))
        (i32.const 1) (i64.const 2) (i32.const 3) (i64.const 4) (i32.const 5) (i64.const 6)
      catch $i
        (i64.const 12) (i32.const 13) (i64.const 14) (i32.const 15) (i64.const 16)
      catch_all
        (i32.const 21) (i64.const 22) (i32.const 23) (i64.const 24) (local.get $which) (i64.const 26) end)

  ;; Locals that are set in the body, and first after what throws.
  (func (export "locals") (param $which i32) (result i32)
    (local $before i32) (local $after i32)
    try
      
        (local.set $before (i32.const 10))
        (call $throws (local.get $which))
        (local.set $after (i32.const 1))
      catch_all end
    (i32.add (local.get $before) (local.get $after)))

  ;; The exception of an outer `catch` is thrown again within an inner one.
  (func (export "rethrow") (param $depth i32) (result i32)
    try (result i32)
      
        try (result i32)
           (throw $i (i32.const 1))
          catch $i
            (drop)
            try (result i32)
               (throw $pair (i64.const 2) (f64.const 0))
              catch_all
                (if (local.get $depth) (then (rethrow 2)))
                (rethrow 0) end end
      catch $pair (drop) (i32.wrap_i64)
      catch $i end)

  ;; A `delegate` passes by what is between, for a block, a `try`, a `catch` or the caller as its label.
  (func (export "to_block") (result i32)
    try (result i32)
      
        (block $here
          try  try  (throw $empty) delegate $here catch_all (return (i32.const 1)) end)
        (i32.const 2)
      catch_all (i32.const 3) end)
  (func $to_caller (param $which i32)
    try
       try  (call $throws (local.get $which)) delegate 1
      catch_all end)
  (func (export "to_caller") (param i32) (result i32)
    try (result i32)  (call $to_caller (local.get 0)) (i32.const 4) catch_all (i32.const 5) end)
  (func (export "to_catch") (result i32)
    try (result i32)
      
        try $t (result i32)
           (throw $empty)
          catch $empty try (result i32)  (throw $i (i32.const 6)) delegate $t
          catch $i end
      catch $i (i32.const 10) (i32.add) end)
  (func (export "to_delegate") (result i32)
    try $outer (result i32)
      
        try (result i32)
          
            try $middle (result i32)
               try (result i32)  (throw $i (i32.const 6)) delegate $middle
              delegate $outer
          catch_all (i32.const 1) end
      catch $i end)
  (func (export "to_no_catch") (result i32)
    try (result i32)
       try $plain  try  (throw $i (i32.const 7)) delegate $plain end (i32.const 0)
      catch $i end)

  ;; Both forms, inside each other.
  (func (export "mixed") (param $which i32) (result i32)
    (local $e exnref)
    (block $caught (result i32)
      (try_table (result i32) (catch $i $caught)
        try (result i32)
          
            (block $all (result exnref)
              (try_table (result exnref) (catch_all_ref $all)
                try  (call $throws (local.get $which)) catch $empty (rethrow 0) end
                (return (i32.const -1))))
            (local.set $e)
            (throw_ref (local.get $e))
          catch $pair (drop) (i32.wrap_i64)
          catch $empty
            try (result i32)  (throw $i (i32.const 21)) delegate 0 end)))

  ;; A delegate to a `try_table`, past a legacy `try`.
  (func (export "to_try_table") (result i32)
    (block $caught (result i32)
      (try_table $table (result i32) (catch $i $caught)
        try (result i32)
           try (result i32)  (throw $i (i32.const 31)) delegate $table
          catch_all (i32.const 1) end)))

  ;; Loops in a body and in a `catch`, whose exception is needed after the loop, with operands below.
  (func (export "loops") (param $n i32) (result i32)
    (local $i i32) (local $sum i32)
    (i32.const 1000000)
    (loop $again (result i32)
      try (result i32)
        
          (local.set $i (local.get $n))
          (loop $inner
            (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
            (br_if $inner (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
          (throw $i (local.get $n))
        catch $i
          (local.set $i (local.get $n))
          (loop $inner
            (local.set $sum (i32.add (local.get $sum) (i32.const 3)))
            (br_if $inner (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
          (drop)
          try (result i32)
             (rethrow 1)
            catch $i (local.set $sum (i32.add (local.get $sum))) (local.get $sum) end end
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.add))

  ;; A branch from a `catch` to its own label, taken or not.
  (func (export "branches") (param $which i32) (param $leave i32) (result i32 i32)
    try (result i32 i32)
       (call $throws (local.get $which)) (i32.const 1) (i32.const 2)
      catch $i (i32.const 3) (br_if 0 (local.get $leave)) (drop) (drop) (rethrow 0)
      catch_all (i32.const 4) (i32.const 5) (br 0) end)

  ;; Traps are no exceptions.
  (func (export "trap") try  (unreachable) catch_all end)
  (func (export "uncaught") try  (throw $i (i32.const 1)) catch $empty end)
  ;; Bodies and clauses that are never reached.
  (func (export "unreached") (result i32)
    try (result i32)  (i32.const 5) catch $i catch_all (rethrow 0) end
    (return)
    try  try  (throw $empty) delegate 0 catch $i (drop) catch_all (rethrow 0) end))

(assert_return (invoke "clauses" (i32.const 0)) (i32.const 1007))
(assert_return (invoke "clauses" (i32.const 1)) (i32.const 1008))
(assert_return (invoke "clauses" (i32.const 2)) (i32.const 1050))
(assert_return (invoke "clauses" (i32.const 3)) (i32.const 1012))
(assert_return (invoke "clauses" (i32.const 4)) (i32.const 1001))
(assert_return (invoke "many" (i32.const 0)) (i32.const 7) (i64.const 12) (i32.const 13) (i64.const 14) (i32.const 15) (i64.const 16))
(assert_return (invoke "many" (i32.const 1)) (i32.const 21) (i64.const 22) (i32.const 23) (i64.const 24) (i32.const 1) (i64.const 26))
(assert_return (invoke "many" (i32.const 4)) (i32.const 1) (i64.const 2) (i32.const 3) (i64.const 4) (i32.const 5) (i64.const 6))
(assert_return (invoke "locals" (i32.const 0)) (i32.const 10))
(assert_return (invoke "locals" (i32.const 4)) (i32.const 11))
(assert_return (invoke "rethrow" (i32.const 0)) (i32.const 2))
(assert_return (invoke "rethrow" (i32.const 1)) (i32.const 1))
(assert_return (invoke "to_block") (i32.const 3))
(assert_return (invoke "to_caller" (i32.const 0)) (i32.const 5))
(assert_return (invoke "to_caller" (i32.const 4)) (i32.const 4))
(assert_return (invoke "to_catch") (i32.const 16))
(assert_return (invoke "to_delegate") (i32.const 6))
(assert_return (invoke "to_no_catch") (i32.const 7))
(assert_return (invoke "mixed" (i32.const 0)) (i32.const 7))
(assert_return (invoke "mixed" (i32.const 1)) (i32.const 8))
(assert_return (invoke "mixed" (i32.const 2)) (i32.const 21))
(assert_return (invoke "mixed" (i32.const 4)) (i32.const -1))
(assert_return (invoke "to_try_table") (i32.const 31))
(assert_return (invoke "loops" (i32.const 1)) (i32.const 1000005))
(assert_return (invoke "loops" (i32.const 3)) (i32.const 1000030))
(assert_return (invoke "branches" (i32.const 0) (i32.const 1)) (i32.const 7) (i32.const 3))
(assert_exception (invoke "branches" (i32.const 0) (i32.const 0)))
(assert_return (invoke "branches" (i32.const 2) (i32.const 0)) (i32.const 4) (i32.const 5))
(assert_return (invoke "branches" (i32.const 4) (i32.const 0)) (i32.const 1) (i32.const 2))
(assert_trap (invoke "trap") "unreachable")
(assert_exception (invoke "uncaught"))
(assert_return (invoke "unreached") (i32.const 5))
