"""A fuzz run: messages that no library would make, among good ones, on a real broker.

line      an AMQP connection of the tests' own, on which anything can be said
tables    what hypothesis draws: header tables
bodies    and bodies
messages  and whole messages, as the bytes that they are
reading   what a NuroPb service must make of such a message, written a second time
mail      who publishes them, and who collects what becomes of them
ledger    what became of each, and what of it must not be
run       the run from top to bottom
"""
