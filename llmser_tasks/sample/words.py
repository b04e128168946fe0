"""The words of the synthetic catalogues. All brands, families and districts are made up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """One line of products (or one cuisine): its types in the order in which people get to them."""

    name: str
    types: tuple[str, str, str, str, str]
    uses: tuple[str, str, str]


@dataclass(frozen=True)
class Vocabulary:
    """What titles are made of.

    Attributes:
        domains: eight, each leading to the next.
        tiers: per tier a word and the four brands that people of this tier stay with.
        attributes: what a person likes throughout (a scent, a district).
    """

    domains: tuple[Domain, ...]
    tiers: tuple[tuple[str, tuple[str, str, str, str]], ...]
    attributes: tuple[str, ...]


BEAUTY = Vocabulary(
    domains=(
        Domain(
            "Hair Care",
            ("Daily Shampoo", "Smoothing Conditioner", "Repair Hair Mask", "Leave-In Hair Serum", "Scalp Oil"),
            ("Fine Hair", "Curly Hair", "Damaged Hair"),
        ),
        Domain(
            "Hair Styling",
            ("Styling Mousse", "Hair Spray", "Heat Protectant", "Ceramic Flat Iron", "Ionic Hair Dryer"),
            ("Short Hair", "Long Hair", "Travel"),
        ),
        Domain(
            "Face Care",
            ("Face Wash", "Toner", "Day Cream", "Vitamin C Serum", "Retinol Night Cream"),
            ("Oily Skin", "Dry Skin", "Mature Skin"),
        ),
        Domain(
            "Makeup",
            ("Tinted Moisturizer", "Liquid Foundation", "Blush Palette", "Contour Kit", "Airbrush Makeup Set"),
            ("Beginners", "Evening Looks", "Sensitive Skin"),
        ),
        Domain(
            "Eyes and Lips",
            ("Lip Balm", "Matte Lipstick", "Lengthening Mascara", "Eyeshadow Palette", "Gel Eyeliner"),
            ("Everyday Wear", "Parties", "Contact Lens Wearers"),
        ),
        Domain(
            "Nails",
            ("Nail File", "Nail Polish", "Gel Top Coat", "LED Nail Lamp", "Acrylic Nail Kit"),
            ("Brittle Nails", "Home Manicure", "Salon Results"),
        ),
        Domain(
            "Bath and Body",
            ("Bar Soap", "Shower Gel", "Body Scrub", "Bath Bomb Set", "Body Butter"),
            ("Dry Elbows", "Gifts", "Sensitive Skin"),
        ),
        Domain(
            "Fragrance and Spa",
            ("Body Mist", "Eau de Toilette", "Eau de Parfum", "Essential Oil Diffuser", "Massage Stone Set"),
            ("Daytime", "Date Night", "Relaxation"),
        ),
    ),
    tiers=(
        ("Value", ("Dayberry", "Plainsong", "Kittiwell", "Merrimart")),
        ("Organic", ("Fernhollow", "Mosslight", "Wildroot", "Greenwren")),
        ("Professional", ("Salonix", "Stylecraft Nine", "Proventa", "Atelier Row")),
        ("Luxury", ("Maison Oriel", "Velvetine", "Aurelle", "Belle Sabine")),
    ),
    attributes=("Lavender", "Coconut & Shea", "Rose", "Citrus", "Unscented", "Green Tea", "Vanilla", "Mint & Rosemary"),
)

RESTAURANTS = Vocabulary(
    domains=(
        Domain(
            "Coffee",
            ("Espresso Cart", "Coffee House", "Bagel Bakery", "Brunch Cafe", "Tea Room"),
            ("Diner", "Bar", "Kitchen"),
        ),
        Domain(
            "American",
            ("Hot Dog Stand", "Burger Grill", "Diner", "Smokehouse", "Steakhouse"),
            ("Cafe", "Bar", "Kitchen"),
        ),
        Domain(
            "Mexican",
            ("Taco Truck", "Taqueria", "Burrito Grill", "Cantina", "Mezcal Bar"),
            ("Cafe", "House", "Kitchen"),
        ),
        Domain(
            "Italian",
            ("Pizza Slice Shop", "Pizzeria", "Pasta Kitchen", "Trattoria", "Wine Enoteca"),
            ("Cafe", "House", "Bar"),
        ),
        Domain(
            "Greek",
            ("Gyro Stand", "Falafel House", "Kebab Grill", "Meze Taverna", "Seafood Taverna"),
            ("Cafe", "Bar", "Garden"),
        ),
        Domain(
            "Indian",
            ("Samosa Stand", "Dosa Cafe", "Curry House", "Tandoori Grill", "Thali Dining Room"),
            ("Bar", "Kitchen", "Garden"),
        ),
        Domain(
            "Chinese",
            ("Bao Stand", "Noodle House", "Dumpling House", "Dim Sum Palace", "Hot Pot Hall"),
            ("Cafe", "Bar", "Garden"),
        ),
        Domain(
            "Japanese",
            ("Onigiri Stand", "Ramen Shop", "Izakaya", "Sushi Bar", "Omakase Counter"),
            ("Cafe", "Kitchen", "Garden"),
        ),
    ),
    tiers=(
        ("Corner", ("Benny's", "Lupe's", "Two Brothers", "Fast Eddie's")),
        ("Farmhouse", ("Green Acre", "Wild Thyme", "Honest Plate", "Meadow Lane")),
        ("Artisan", ("Copper Pot", "Slow Ember", "Salt & Stone", "The Third Fork")),
        ("Grand", ("Golden Crane", "Villa Serena", "The Marquis", "Pearl & Ivory")),
    ),
    attributes=(
        "Old Town",
        "Harborside",
        "University Row",
        "Sunset Hill",
        "Airport Road",
        "Market Square",
        "Riverbend",
        "Northgate",
    ),
)
