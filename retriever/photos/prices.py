"""Prices as shops write them: a number in any notation, and its currency where it is told."""

from __future__ import annotations

import re
import unicodedata

# A blank or an apostrophe belongs to a number where three digits follow it.
_NUMBER = re.compile(r"(?:(?<![\w.,])[.,])?[0-9](?:[0-9.,]|['’\s](?=[0-9]{3}(?![0-9])))*")
_MINUS = re.compile(r"(?<!\w)[-−–][^\w\s]?\s*$")

_CODES = frozenset(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP "
    "BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS "
    "KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
    "MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF "
    "SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD "
    "TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL".split()
)
"""ISO 4217. Other words of three capitals, such as VAT and TTC, are no currency."""

_THREE_DECIMALS = frozenset("BHD IQD JOD KWD LYD OMR TND".split())
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₽": "RUB", "₩": "KRW", "₹": "INR"}
_SIGNS |= {"₺": "TRY", "₫": "VND", "฿": "THB", "₴": "UAH", "₪": "ILS", "₱": "PHP", "₸": "KZT"}
_SIGNS |= {"₦": "NGN", "円": "JPY", "元": "CNY"}
_COUNTRIES = {
    "$": {
        "US": "USD", "C": "CAD", "CA": "CAD", "CDN": "CAD", "A": "AUD", "AU": "AUD", "HK": "HKD",
        "NZ": "NZD", "S": "SGD", "SG": "SGD", "R": "BRL", "NT": "TWD", "TW": "TWD", "MX": "MXN",
    },
    "¥": {"CN": "CNY", "JP": "JPY"},
    "£": {"GB": "GBP", "UK": "GBP", "E": "EGP"},
}  # fmt: skip


def parse_price(text: str) -> tuple[str, str] | None:
    """Split a price into its number (with a point) and ISO 4217 currency (or ''); None if it is no
    price, such as a text without digits or a number below 0.

    The last of `.` and `,` is the decimal point unless three digits follow it and it, or a blank,
    stands for thousands; after a 0 alone it never does. A sign with a country that is not known,
    such as `X$`, is no currency.
    """
    text = unicodedata.normalize("NFKC", text)
    number = _NUMBER.search(text)
    if number is None or _MINUS.search(text[: number.start()]):
        return None
    currency = _currency(text, number)
    digits = re.sub(r"[\s'’]", "", number[0]).rstrip(".,")
    point = max(digits.rfind("."), digits.rfind(","))
    if point < 0:
        return digits, currency
    whole, rest = re.sub(r"[.,]", "", digits[:point]), digits[point + 1 :]
    several = digits.count(digits[point]) > 1
    thousands = len(rest) == 3 and (several or len(whole) <= 3) and bool(whole.strip("0"))
    if digits[point] == "." and not several and currency in _THREE_DECIMALS:
        thousands = False  # 25.500 KWD
    return (f"{whole}{rest}" if thousands else f"{whole or 0}.{rest}"), currency


def count_numbers(text: str) -> int:
    """Count the numbers in a price's text: a range has two."""
    return len(_NUMBER.findall(unicodedata.normalize("NFKC", text)))


def _currency(text: str, number: re.Match[str]) -> str:
    for code in re.findall(r"(?<![^\W\d_])[A-Z]{3}(?![^\W\d_])", text):
        if code in _CODES:
            return code
    alone = f"{text[: number.start()]} {text[number.end() :]}".strip(" .-").upper()
    if alone in _CODES:  # 19.99 eur
        return alone
    place = next((place for place, letter in enumerate(text) if letter in _SIGNS), None)
    if place is None:
        return ""
    sign = text[place]
    before = re.search(r"[^\W\d_]+$", text[:place]) if not _is_letter(sign) else None
    after = re.match(r"[A-Z]{2}(?![^\W\d_])", text[place + 1 :])  # 25 $CA
    country = before or after
    if country is None:
        return _SIGNS[sign]
    return _COUNTRIES.get(sign, {}).get(country[0], "")


def _is_letter(sign: str) -> bool:
    return sign.isalpha()  # 円 and 元
