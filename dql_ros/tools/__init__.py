"""Tools around a contract: survey a bag, draft and check a contract, layouts, the doctor."""
