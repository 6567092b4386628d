// Tokens as a server with a secret wants them: JWTs signed with HMAC-SHA256. For tests only.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace tokens {

// FIPS 180-4.
inline std::string sha256(std::string text) {
    // The fractions of the roots of the first primes.
    static const std::array<std::uint32_t, 64> k = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
        0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
        0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
        0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
        0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::array<std::uint32_t, 8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const std::uint64_t bits = text.size() * 8;
    text.push_back('\x80');
    while (text.size() % 64 != 56) text.push_back('\0');
    for (int shift = 56; shift >= 0; shift -= 8) text.push_back(static_cast<char>((bits >> shift) & 0xff));
    const auto turn = [](std::uint32_t word, int by) { return (word >> by) | (word << (32 - by)); };
    for (std::size_t block = 0; block < text.size(); block += 64) {
        std::array<std::uint32_t, 64> w{};
        for (std::size_t byte = 0; byte < 64; byte++) w[byte / 4] = (w[byte / 4] << 8) | static_cast<unsigned char>(text[block + byte]);
        for (std::size_t t = 16; t < 64; t++) {
            const std::uint32_t s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >> 3);
            const std::uint32_t s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        auto v = h;
        for (std::size_t t = 0; t < 64; t++) {
            const std::uint32_t s1 = turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25), choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
            const std::uint32_t first = v[7] + s1 + choice + k[t] + w[t];
            const std::uint32_t s0 = turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22);
            const std::uint32_t most = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v = {first + s0 + most, v[0], v[1], v[2], v[3] + first, v[4], v[5], v[6]};
        }
        for (std::size_t i = 0; i < 8; i++) h[i] += v[i];
    }
    std::string digest;
    for (const std::uint32_t word : h) {
        for (int shift = 24; shift >= 0; shift -= 8) digest.push_back(static_cast<char>((word >> shift) & 0xff));
    }
    return digest;
}

// RFC 2104; the secret is at most a block long.
inline std::string hmac(std::string secret, const std::string& text) {
    secret.resize(64, '\0');
    std::string inner = secret, outer = secret;
    for (char& byte : inner) byte = static_cast<char>(byte ^ 0x36);
    for (char& byte : outer) byte = static_cast<char>(byte ^ 0x5c);
    return sha256(outer + sha256(inner + text));
}

inline std::string base64url(const std::string& text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::string encoded;
    std::uint32_t bits = 0, count = 0;
    for (const char byte : text) {
        bits = (bits << 8) | static_cast<unsigned char>(byte);
        for (count += 8; count >= 6; count -= 6) encoded.push_back(digits[(bits >> (count - 6)) & 63]);
    }
    if (count > 0) encoded.push_back(digits[(bits << (6 - count)) & 63]);
    return encoded;
}

// A token with these claims, which are JSON.
inline std::string token(const std::string& secret, const std::string& claims) {
    const std::string text = base64url("{\"alg\":\"HS256\",\"typ\":\"JWT\"}") + "." + base64url(claims);
    return text + "." + base64url(hmac(secret, text));
}

}  // namespace tokens
