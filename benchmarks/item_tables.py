"""What item tables cost, and what they bring on validation items: one training of each, on the same users and batches.

    python benchmarks/item_tables.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--rounds 5]
        [--train 42,43] [--tables ids,text-start]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. `trainings.py` says what a round is; the ratio to ids is
the median over rounds, with the least and the greatest. --train also trains every table with each of these seeds, as a
run would, and prints the best validation NDCG@10. Test items are never read.
"""

from __future__ import annotations

from trainings import Arm, begin, cost, numbers, options, quality

from llmser_tasks.core.kinds import ITEM_TABLES

TABLES = [name for name, table in ITEM_TABLES.items() if set(table.features) <= {"item_vectors"}]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", type=numbers, default=[])
    parser.add_argument("--tables", default=",".join(TABLES))
    arguments = parser.parse_args()
    data, config = begin(arguments)
    arms = [Arm(ITEM_TABLES[table].title, table) for table in arguments.tables.split(",")]
    if arguments.rounds:
        cost(data, config, arms, arguments.rounds)
    if arguments.train:
        quality(data, config, arms, arguments.train)


if __name__ == "__main__":
    main()
