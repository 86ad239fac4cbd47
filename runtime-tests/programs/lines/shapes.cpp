// Traps in a method of a template, inlined into another, in a namespace.
namespace shapes {

template <typename T> struct Pair {
    T first, second;

    __attribute__((always_inline)) T ratio() const {
        if (second == 0)
            __builtin_trap();
        return first / second;
    }
};

template <typename T> __attribute__((noinline)) T area(const Pair<T> &pair) {
    return pair.ratio() * 2;
}

struct Shape {
    virtual int size(Pair<int> pair) const;
};

__attribute__((noinline)) int Shape::size(Pair<int> pair) const {
    return area(pair) + 1;
}

} // namespace shapes

extern "C" __attribute__((export_name("run"))) int run(int second) {
    shapes::Shape shape;
    return shape.size({8, second}) + 1;
}
