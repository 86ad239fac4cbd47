;; Streams through a 64-bit memory: arrays larger than the caches are scaled, added and summed.
(module
  (memory i64 200)
  (func (export "run") (param $rounds i32) (result i64)
    (local $i i64) (local $sum i64)
    ;; Three arrays of 2^20 numbers of 32 bits: at 0, at 4 MiB and at 8 MiB.
    (loop $more
      (i32.store (local.get $i) (i32.mul (i32.wrap_i64 (local.get $i)) (i32.const 7)))
      (i32.store offset=0x400000 (local.get $i) (i32.xor (i32.wrap_i64 (local.get $i)) (i32.const -1)))
      (br_if $more (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 4))) (i64.const 0x400000))))
    (loop $round
      (local.set $i (i64.const 0))
      (loop $more
        (i32.store offset=0x800000 (local.get $i)
          (i32.add (i32.mul (i32.load (local.get $i)) (i32.const 3)) (i32.load offset=0x400000 (local.get $i))))
        (br_if $more (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 4))) (i64.const 0x400000))))
      (local.set $i (i64.const 0))
      (loop $more
        (i32.store offset=0x400000 (local.get $i)
          (i32.xor (i32.shr_u (i32.load (local.get $i)) (i32.const 3)) (i32.load offset=0x800000 (local.get $i))))
        (br_if $more (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 4))) (i64.const 0x400000))))
      (local.set $i (i64.const 0))
      (loop $more
        (local.set $sum
          (i64.add (local.get $sum)
            (i64.add (i64.load32_u offset=0x800000 (local.get $i)) (i64.load32_u offset=0x400004 (local.get $i)))))
        (br_if $more (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 16))) (i64.const 0x400000))))
      (br_if $round (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $sum)))
