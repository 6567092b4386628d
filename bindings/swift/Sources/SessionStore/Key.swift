/// A key and the type of its values, so that nobody has to agree on them twice.
///
/// ```swift
/// extension Key where Value == String {
///     static var spotlight: Key { Key("spotlight") }
/// }
///
/// try await store.set(.spotlight, to: "peer-1")
/// let who = try await store.get(.spotlight)  // String?
/// ```
public struct Key<Value: Codable & Sendable>: Sendable, Hashable {
    /// The key itself: 1 to 256 bytes, without control characters.
    public let name: String

    /// A key whose values are of this type.
    public init(_ name: String, as _: Value.Type = Value.self) {
        self.name = name
    }
}
