"""Networks and their weights, independent of data, selection and Lightning."""
