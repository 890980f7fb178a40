"""Addresses that a container is to have: which can be had, whose they are, and that it keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from boxes import box, box_engine
from ownnet import addresses

import pylxc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxes import Box

pytestmark = pytest.mark.root
__all__ = ["box", "box_engine"]


@pytest.fixture
def lab(box: Box) -> Iterator[pylxc.Network]:
    with pylxc.Network.create("lab", ("10.5.0.0/24", "fd00:5::/64"), engine=box.engine) as made:
        yield made


def inside(container: pylxc.Container, link: str = "eth0") -> set[str]:
    return addresses(link, inside=container.status().pid)


@pytest.mark.parametrize("given", [{"ip": "10.5.0.9"}, {"ip6": "fd00:5::9"}, {"ip": "10.5.0.9", "ip6": "fd00:5:0::9"}])
def test_a_container_has_the_address_that_was_chosen(box: Box, lab: pylxc.Network, given: dict[str, str]) -> None:
    wanted = {"10.5.0.9/24", "fd00:5::9/64"}
    with box.start("sleep", "100", network="lab", name="fixed", **given) as container:
        assert inside(container) == wanted
        with pytest.raises(pylxc.Conflict, match="the address is taken by container fixed on network lab"):
            box.create("true", network="lab", **given)
        container.restart(timeout=0)
        assert inside(container) == wanted
    with box.start("sleep", "100", network="lab") as other:  # numbers are given from the beginning, as before
        assert inside(other) == {"10.5.0.2/24", "fd00:5::2/64"}
    assert box.create("true", network="lab", **given).remove() is None


def test_automatic_addresses_keep_off_chosen_ones(box: Box, lab: pylxc.Network) -> None:
    made = [box.create("true", network="lab", ip="10.5.0.3"), *(box.create("true", network="lab") for _ in range(2))]
    assert [member.addresses[0] for member in lab.members()] == ["10.5.0.2", "10.5.0.3", "10.5.0.4"]
    for container in made:
        container.remove()


def test_a_running_container_is_connected_with_an_address(box: Box, lab: pylxc.Network) -> None:
    with (
        pylxc.Network.create("back", "10.6.0.0/24", engine=box.engine) as back,
        box.start("sleep", "100", network="lab") as container,
    ):
        with pytest.raises(pylxc.SpecError, match=r"10\.5\.0\.9.*give one of 10\.6\.0\.0/24"):
            back.connect(container, address="10.5.0.9")
        assert back.members() == []
        back.connect(container, aliases=["db"], address=["10.6.0.77"])
        assert inside(container, "eth1") == {"10.6.0.77/24"}
        with pytest.raises(pylxc.SpecError) as caught:
            pylxc.Network.get("bridge", engine=box.engine).connect(container, address="10.6.0.8")
        assert caught.value.option == "address"
        back.disconnect(container)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ip": "10.5.0.1"}, r"give one from 10\.5\.0\.2 to 10\.5\.0\.254"),  # the host's
        ({"ip": "10.5.0.255"}, r"give one from 10\.5\.0\.2 to 10\.5\.0\.254"),
        ({"ip": "10.6.0.9"}, r"give one of 10\.5\.0\.0/24 or fd00:5::/64"),
        ({"ip6": "fd00:5::1:0"}, "give one from fd00:5::2 to fd00:5::fe"),
        ({"ip": "10.5.0.9", "ip6": "fd00:5::8"}, "have one number in all subnets"),
    ],
)
def test_addresses_that_cannot_be_had(box: Box, lab: pylxc.Network, given: dict[str, str], words: str) -> None:
    with pytest.raises(pylxc.SpecError, match=words) as caught:
        box.create("true", network="lab", **given)
    assert caught.value.option == "address"
    assert lab.members() == []


@pytest.mark.parametrize("network", [None, "default", "bridge", "none", "host", ["lab", "back"], "container:x"])
def test_addresses_need_one_network_of_ones_own(box: Box, network: str | list[str] | None) -> None:
    with pytest.raises(pylxc.SpecError, match="an address is had on one network of your own") as caught:
        box.run("true", network=network, ip="10.5.0.9")
    assert caught.value.option == "ip"
