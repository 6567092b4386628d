package sessionstore.internal

import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.KSerializer
import kotlinx.serialization.SerializationException
import kotlinx.serialization.descriptors.PrimitiveKind
import kotlinx.serialization.descriptors.SerialDescriptor
import kotlinx.serialization.descriptors.SerialKind
import kotlinx.serialization.descriptors.StructureKind
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import sessionstore.ErrorCode
import sessionstore.SessionStoreException

/** Members that a later version of an app adds do not break an earlier one. */
private val format = Json {
    ignoreUnknownKeys = true
    encodeDefaults = true
}

internal fun <T> encode(serializer: KSerializer<T>, value: T): String = try {
    // The format writes the numbers of a tree anew, those that are no Long or ULong as Double; the tree's own text has
    // them as they are. A tree within a class, a List or a Map is the format's: docs/kotlin.md says so.
    if (value is JsonElement) value.toString() else format.encodeToString(serializer, value)
} catch (_: SerializationException) {
    // Not its message nor the exception itself: they quote the value.
    throw invalidArgument("JSON cannot say this ${serializer.descriptor.serialName}.")
}

/** A JSON array. */
internal fun <T> encodeAll(serializer: KSerializer<T>, values: List<T>): String =
    values.joinToString(",", "[", "]") { encode(serializer, it) }

/**
 * Decodes a value. The format by itself takes `"1"` for a number and `"true"` for a Boolean, which here are strings and
 * nothing else.
 */
@OptIn(ExperimentalSerializationApi::class)
internal fun <T> decodeStrictly(serializer: KSerializer<T>, key: String, json: String): T {
    try {
        val element = format.parseToJsonElement(json)
        if (fits(element, serializer.descriptor)) return format.decodeFromJsonElement(serializer, element)
    } catch (_: IllegalArgumentException) {
        // Told below, and without quoting the value.
    }
    val expected = serializer.descriptor.serialName
    throw SessionStoreException(ErrorCode.WRONG_TYPE, "The value of the key $key is not what $expected is read from.")
}

@OptIn(ExperimentalSerializationApi::class)
private fun fits(element: JsonElement, type: SerialDescriptor): Boolean {
    // The trees of the format describe themselves as if they were strings.
    if (element is JsonNull || type.serialName.startsWith("kotlinx.serialization.json.")) return true
    if (type.isInline) return fits(element, type.getElementDescriptor(0))
    return when (type.kind) {
        PrimitiveKind.STRING, PrimitiveKind.CHAR, SerialKind.ENUM -> element is JsonPrimitive && element.isString
        is PrimitiveKind -> element is JsonPrimitive && !element.isString
        StructureKind.LIST -> element is JsonArray && element.all { fits(it, type.getElementDescriptor(0)) }
        StructureKind.MAP -> element is JsonObject && element.values.all { fits(it, type.getElementDescriptor(1)) }
        StructureKind.CLASS, StructureKind.OBJECT -> element is JsonObject && (0 until type.elementsCount).all { index ->
            element[type.getElementName(index)]?.let { fits(it, type.getElementDescriptor(index)) } ?: true
        }
        else -> true
    }
}
