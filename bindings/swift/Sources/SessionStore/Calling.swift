// What all calls into the library have in common: handles, texts, structs, errors and callbacks.

import CSessionStore
import Foundation

/// One reference to an object of the library. It is given back when the last user is gone, which never blocks.
///
/// `@unchecked Sendable`: the pointer never changes, and what it points to may be used from any thread.
final class Handle: @unchecked Sendable {
    private let pointer: OpaquePointer
    private let free: @convention(c) (OpaquePointer?) -> Void

    /// Takes over a reference.
    init(owning pointer: OpaquePointer, _ free: @escaping @convention(c) (OpaquePointer?) -> Void) {
        self.pointer = pointer
        self.free = free
    }

    deinit { free(pointer) }

    /// The pointer for as long as the call takes; the reference is not given back before its end.
    func use<R>(_ body: (OpaquePointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) { try body(pointer) }
    }
}

/// A struct of the library, which begins with its size.
protocol Sized {
    init()
    var struct_size: UInt32 { get set }
}

extension Sized {
    /// All zero but for its size: what the `_INIT` macros of the header make.
    static func sized() -> Self {
        var new = Self()
        new.struct_size = UInt32(MemoryLayout<Self>.size)
        return new
    }
}

/// A struct of callbacks, which has a context and is told when nothing uses it any more.
protocol Callbacks: Sized {
    var ctx: UnsafeMutableRawPointer! { get set }
    var on_drop: (@convention(c) (UnsafeMutableRawPointer?) -> Void)! { get set }
}

extension Callbacks {
    /// Callbacks whose context is this object: the call that takes them holds it until `on_drop`.
    static func holding(_ context: AnyObject) -> Self {
        var new = sized()
        new.ctx = Unmanaged.passRetained(context).toOpaque()
        new.on_drop = { Unmanaged<AnyObject>.fromOpaque($0!).release() }
        return new
    }
}

/// A struct that hears how a request ended, which something may take back.
protocol ResultCallbacks: Callbacks {
    var cancellation: OpaquePointer! { get set }
}

extension ResultCallbacks {
    /// Callbacks whose context is this object, of a request that this cancellation takes back; nil: nothing does.
    static func holding(_ context: AnyObject, _ cancellation: OpaquePointer?) -> Self {
        var new = holding(context)
        new.cancellation = cancellation
        return new
    }
}

/// The context of a callback, while the library holds it.
func context<T: AnyObject>(_ pointer: UnsafeMutableRawPointer?, as _: T.Type = T.self) -> T {
    Unmanaged<T>.fromOpaque(pointer!).takeUnretainedValue()
}

extension sessionstore_client_options: Sized {}
extension sessionstore_server_options: Sized {}
extension sessionstore_write_options: Sized {}
extension sessionstore_lock_options: Sized {}
extension sessionstore_selector: Sized {}
extension sessionstore_usage: Sized {}
extension sessionstore_update_listener: Callbacks {}
extension sessionstore_key_change_listener: Callbacks {}
extension sessionstore_action_result: ResultCallbacks {}
extension sessionstore_wake_hook: Callbacks {}
extension sessionstore_thread_hooks: Callbacks {}
extension sessionstore_updater: Callbacks {}
extension sessionstore_lock_listener: Callbacks {}
extension sessionstore_lock_result: ResultCallbacks {}
extension sessionstore_event_list_result: ResultCallbacks {}
extension sessionstore_key_list_result: ResultCallbacks {}
extension sessionstore_usage_result: ResultCallbacks {}

/// Where a call writes its error.
typealias ErrorOut = UnsafeMutablePointer<OpaquePointer?>

/// Makes a call, and throws what it fails with.
func call(_ body: (ErrorOut) -> Int32) throws {
    var error: OpaquePointer?
    let code = body(&error)
    guard code != SESSIONSTORE_OK else { return }
    defer { sessionstore_error_free(error) }
    throw SessionStoreError(borrowing: error, number: code)
}

/// Makes a call that gives a handle.
func make(
    _ free: @escaping @convention(c) (OpaquePointer?) -> Void, _ body: (UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> Int32
) throws -> Handle? {
    var made: OpaquePointer?
    try call { body(&made, $0) }
    return made.map { Handle(owning: $0, free) }
}

/// A text as the library takes it, with its length.
func withText<R>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) throws -> R) rethrows -> R {
    var text = text
    return try text.withUTF8 { bytes in
        try bytes.withMemoryRebound(to: CChar.self) { try body($0.baseAddress, $0.count) }
    }
}

/// Two texts at once, or none where there is none.
func withTexts<R>(
    _ first: String?, _ second: String?, _ body: (UnsafePointer<CChar>?, Int, UnsafePointer<CChar>?, Int) throws -> R
) rethrows -> R {
    try withOptional(first) { firstText, firstLength in
        try withOptional(second) { try body(firstText, firstLength, $0, $1) }
    }
}

private func withOptional<R>(_ text: String?, _ body: (UnsafePointer<CChar>?, Int) throws -> R) rethrows -> R {
    guard let text else { return try body(nil, 0) }
    // The empty text is not the same as none here, so it needs an address.
    return try text.withCString { try body($0, text.utf8.count) }
}

/// A text that the library lends: a pointer, and a length through the last argument.
func text(_ get: (UnsafeMutablePointer<Int>) -> UnsafePointer<CChar>?) -> String {
    var length = 0
    guard let start = get(&length) else { return "" }
    return start.withMemoryRebound(to: UInt8.self, capacity: length) {
        String(decoding: UnsafeBufferPointer(start: $0, count: length), as: UTF8.self)
    }
}

/// Texts that live until a call has copied them.
final class Texts {
    private var allocated: [UnsafeMutablePointer<CChar>] = []
    private var arrays: [UnsafeMutableRawPointer] = []

    deinit {
        allocated.forEach { $0.deallocate() }
        arrays.forEach { $0.deallocate() }
    }

    /// A text that ends with NUL, for an options struct.
    func terminated(_ text: String?, _ name: String) throws -> UnsafePointer<CChar>? {
        guard let text else { return nil }
        guard !text.utf8.contains(0) else {
            throw SessionStoreError(.invalidArgument, "The option \(name) has a NUL in it, which no such text may have.")
        }
        return copy(text)
    }

    /// Texts with their lengths.
    func list(
        _ texts: [String]
    ) -> (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int>?, Int) {
        guard !texts.isEmpty else { return (nil, nil, 0) }
        let starts = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: texts.count)
        let lengths = UnsafeMutablePointer<Int>.allocate(capacity: texts.count)
        arrays += [UnsafeMutableRawPointer(starts), UnsafeMutableRawPointer(lengths)]
        for (index, text) in texts.enumerated() {
            (starts + index).initialize(to: copy(text))
            (lengths + index).initialize(to: text.utf8.count)
        }
        return (UnsafePointer(starts), UnsafePointer(lengths), texts.count)
    }

    private func copy(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let copied = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        bytes.withUnsafeBufferPointer { copied.initialize(from: $0.baseAddress!, count: $0.count) }
        allocated.append(copied)
        return UnsafePointer(copied)
    }
}

extension Duration {
    /// Whole milliseconds, rounded up, so that a time that is not nothing does not become it; nil for what no
    /// such time can be.
    var wholeMilliseconds: UInt64? {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return nil }
        let (thousands, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000)
        let rest = UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        let (sum, carried) = thousands.addingReportingOverflow(rest)
        return overflow || carried ? nil : sum
    }

    init(milliseconds: UInt64) {
        self = .seconds(Int64(milliseconds / 1_000)) + .milliseconds(Int64(milliseconds % 1_000))
    }
}

/// What an option is whose 0 means the default: nothing is said, or more than nothing.
func more<T: OptionNumber>(_ value: T?, _ name: String) throws -> UInt32 {
    try option(value, name, zero: nil)
}

/// The same for an option that can be 0 too.
func orZero<T: OptionNumber>(_ value: T?, _ name: String) throws -> UInt32 {
    try option(value, name, zero: UInt32(SESSIONSTORE_ZERO))
}

/// The same for an option whose default is 0.
func plain<T: OptionNumber>(_ value: T?, _ name: String) throws -> UInt32 {
    try option(value, name, zero: 0)
}

private func option<T: OptionNumber>(_ value: T?, _ name: String, zero: UInt32?) throws -> UInt32 {
    guard let value else { return 0 }
    guard let number = value.optionNumber, number < UInt64(UInt32.max), let said = number == 0 ? zero : UInt32(number)
    else { throw SessionStoreError(.invalidArgument, "The option \(name) is outside its range.") }
    return said
}

/// A count, or a time in milliseconds; nil for what is less than nothing.
protocol OptionNumber {
    var optionNumber: UInt64? { get }
}

extension Int: OptionNumber {
    var optionNumber: UInt64? { UInt64(exactly: self) }
}

extension Duration: OptionNumber {
    var optionNumber: UInt64? { wholeMilliseconds }
}

/// A time of the server, in milliseconds since 1970; 0 is none.
func date(_ milliseconds: UInt64) -> Date? {
    milliseconds == 0 ? nil : Date(timeIntervalSince1970: Double(milliseconds) / 1_000)
}
