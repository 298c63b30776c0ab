"""A notebook, as editors and jupytext have it: run it cell by cell, or with Python.

python -m examples.blocking.notebook
"""

# %% Connect. In a notebook a mesh stays open from cell to cell; no cell needs an await.
from __future__ import annotations

from examples.blocking.orders import OrdersAPI
from examples.orders.running import broker
from nuropb_rmq import NuropbRemoteError, blocking

mesh = blocking.Mesh(broker(), request_timeout=5)
mesh.start()
orders = mesh.client(OrdersAPI)

# %% See what the service has.
print(*mesh.describe_service("orders")["methods"])

# %% Place some orders.
placed = [orders.place(item, count) for item, count in (("lamp", 2), ("chair", 1))]
for order in placed:
    print(order.item, order.count, order.packed)

# %% Compute with the results.
total = sum(orders.total(order.order_id) for order in placed)
print(f"{total:.2f}")

# %% An error of the service is an exception; the mesh goes on.
try:
    orders.get("none")
except NuropbRemoteError as e:
    print(e)

# %% Interrupt a cell as any other: this one takes its time.
print(orders.pack(placed[0].order_id, seconds=0.2).packed)

# %% Close. Without this the mesh is stopped when the kernel ends.
mesh.stop()
