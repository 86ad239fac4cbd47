//! Uses what programs written in Rust use: files, time, threads' absence, formatting, closures, a panic at the end.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

trait Shape {
    fn area(&self) -> f64;
}
struct Square(f64);
struct Circle(f64);
impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}
impl Shape for Circle {
    fn area(&self) -> f64 {
        std::f64::consts::PI * self.0 * self.0
    }
}

fn main() {
    let shapes: Vec<Box<dyn Shape>> = (1..=20)
        .map(|i| if i % 2 == 0 { Box::new(Square(i as f64)) as Box<dyn Shape> } else { Box::new(Circle(i as f64)) })
        .collect();
    println!("area {:.6}", shapes.iter().map(|s| s.area()).sum::<f64>());

    let product = (1..=30u128).product::<u128>();
    println!("product {product} {:x} {}", product, product / 0x1234_5678_9abc_def0_1234);

    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    println!("slept {}", started.elapsed() >= Duration::from_millis(20));
    println!("time {}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() > 1_600_000_000);

    let folder = std::env::args().nth(1).expect("a folder");
    let path = format!("{folder}/data.bin");
    let mut file = OpenOptions::new().create(true).read(true).write(true).open(&path).unwrap();
    file.write_all(&(0..=255).collect::<Vec<u8>>()).unwrap();
    file.seek(SeekFrom::Start(250)).unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).unwrap();
    println!("tail {tail:?} of {}", file.metadata().unwrap().len());
    file.set_len(10).unwrap();
    println!("now {}", fs::metadata(&path).unwrap().len());
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    println!("{names:?}");
    fs::remove_file(&path).unwrap();
    println!("gone {:?}", fs::metadata(&path).unwrap_err().kind());

    let index = names.len() + 4;
    println!("{}", [1, 2, 3][index % 8]);
}
