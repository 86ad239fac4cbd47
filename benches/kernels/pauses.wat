;; A hundred megabytes of live objects of four kinds, each made by one function and replaced bit by bit by another: for the
;; bench `pauses`, which looks for the longest call of the latter.
(module
  (type $node (struct (field $next (mut (ref null $node))) (field $number i64)))
  (type $nodes (array (mut (ref null $node))))
  (type $bytes (array (mut i8)))
  (type $arrays (array (mut eqref)))
  (type $entry (struct (field $key i32) (field $value (mut (ref null $node))) (field $next (mut (ref null $entry)))))
  (type $buckets (array (mut (ref null $entry))))
  (global $nodes (mut (ref null $nodes)) (ref.null $nodes))
  (global $arrays (mut (ref null $arrays)) (ref.null $arrays))
  (global $first (mut (ref null $node)) (ref.null $node))
  (global $last (mut (ref null $node)) (ref.null $node))
  (global $buckets (mut (ref null $buckets)) (ref.null $buckets))
  (global $random (mut i32) (i32.const 12345))
  (func $random (param $below i32) (result i32)
    (local $bits i32)
    (local.set $bits (global.get $random))
    (local.set $bits (i32.xor (local.get $bits) (i32.shl (local.get $bits) (i32.const 13))))
    (local.set $bits (i32.xor (local.get $bits) (i32.shr_u (local.get $bits) (i32.const 17))))
    (local.set $bits (i32.xor (local.get $bits) (i32.shl (local.get $bits) (i32.const 5))))
    (global.set $random (local.get $bits))
    (i32.rem_u (local.get $bits) (local.get $below)))
  (func $node (result (ref $node)) (struct.new $node (ref.null $node) (i64.const 1)))

  ;; Small objects in one array: four million.
  (func $replace_small
    (array.set $nodes (global.get $nodes) (call $random (i32.const 3600000)) (call $node)))
  (func (export "make small") (local $i i32)
    (global.set $nodes (array.new_default $nodes (i32.const 3600000)))
    (loop $more
      (array.set $nodes (global.get $nodes) (local.get $i) (call $node))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3600000)))))
  (func (export "replace small") (param $count i32)
    (loop $more
      (call $replace_small)
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))

  ;; Arrays of a megabyte, of bytes and of references.
  (func $array (param $i i32)
    (array.set $arrays (global.get $arrays) (local.get $i)
      (if (result eqref) (i32.and (local.get $i) (i32.const 1))
        (then (array.new_default $bytes (i32.const 1000000)))
        (else (array.new $nodes (call $node) (i32.const 250000))))))
  (func (export "make arrays") (local $i i32)
    (global.set $arrays (array.new_default $arrays (i32.const 100)))
    (loop $more
      (call $array (local.get $i))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100)))))
  (func (export "replace arrays") (param $count i32)
    (local $i i32)
    (loop $more
      (drop (call $node))
      (if (i32.eqz (i32.and (local.get $count) (i32.const 1023)))
        (then (call $array (call $random (i32.const 100)))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))

  ;; A list: the first node goes and a new one comes at the end.
  (func $append (local $node (ref null $node))
    (local.set $node (call $node))
    (if (ref.is_null (global.get $last))
      (then (global.set $first (local.get $node)))
      (else (struct.set $node $next (global.get $last) (local.get $node))))
    (global.set $last (local.get $node)))
  (func (export "make list") (local $i i32)
    (loop $more
      (call $append)
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4200000)))))
  (func (export "replace list") (param $count i32)
    (loop $more
      (call $append)
      (global.set $first (struct.get $node $next (global.get $first)))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))

  ;; A hash map with values: an entry goes, and another comes.
  (func $hash (param $key i32) (result i32)
    (i32.and (i32.mul (local.get $key) (i32.const 0x9e3779b1)) (i32.const 0x1fffff)))
  (func $insert (param $key i32)
    (array.set $buckets (global.get $buckets) (call $hash (local.get $key))
      (struct.new $entry (local.get $key) (call $node)
        (array.get $buckets (global.get $buckets) (call $hash (local.get $key))))))
  (func (export "make map") (local $i i32)
    (global.set $buckets (array.new_default $buckets (i32.const 0x200000)))
    (loop $more
      (call $insert (local.get $i))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000000)))))
  (func (export "replace map") (param $count i32) (local $at i32) (local $entry (ref null $entry))
    (loop $more
      (local.set $at (call $random (i32.const 0x200000)))
      (local.set $entry (array.get $buckets (global.get $buckets) (local.get $at)))
      (if (i32.eqz (ref.is_null (local.get $entry)))
        (then
          (struct.set $entry $value (local.get $entry) (call $node))
          (array.set $buckets (global.get $buckets) (local.get $at) (struct.get $entry $next (local.get $entry)))
          (call $insert (struct.get $entry $key (local.get $entry)))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))))
