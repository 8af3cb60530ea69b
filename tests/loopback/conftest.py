from tests.loopback.fixtures import clients, modal_cloud

__all__ = ["clients", "modal_cloud"]
